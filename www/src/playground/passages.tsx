// Passages of a request's text: the colour, line and label of each role, and the legend.
import type { ComponentChildren } from 'preact';
import type { Passage } from '../core/core.ts';

/** The role of a passage. The role `system` is an instruction in the system message. */
type Role = 'instruction' | 'system' | 'material' | 'examples';

const ROLES: Record<Role, string> = {
  system: 'asks for something in the system message',
  instruction: 'asks for something elsewhere',
  material: 'is worked on: documents, quotations, code, results of tools',
  examples: 'shows the wanted answer',
};

const SYSTEM = 'gen_ai.system_instructions';

/** Returns the role of a passage; null if this page does not know the role. */
export function roleOf({ field, section }: Passage): Role | null {
  const role = field.slice('hedgerow.prompt.'.length);
  if (role === 'instruction' && section === SYSTEM) return 'system';
  return role in ROLES ? (role as Role) : null;
}

interface PassageTextProps {
  passage: Passage;
  children: ComponentChildren;
}

/**
 * Shows the text of a passage. The label and the line below the text have the same meaning as the
 * colour, for users who cannot distinguish colours.
 */
export function PassageText({ passage, children }: PassageTextProps) {
  const role = roleOf(passage);
  if (!role) return <>{children}</>;
  const { field, section } = passage;
  return (
    <span class={`passage passage-${role}`} title={`${field}, in ${section}`}>
      <span class="passage-label">{role}</span>
      {children}
    </span>
  );
}

/** The roles of the passages, with their meanings. */
export function PassageLegend({ passages }: { passages: readonly Passage[] }) {
  const present = new Set(passages.map(roleOf));
  const shown = (Object.keys(ROLES) as Role[]).filter((role) => present.has(role));
  if (!shown.length) return null;
  return (
    <ul class="passage-legend" aria-label="Roles of passages">
      {shown.map((role) => (
        <li key={role}>
          <span class={`passage passage-${role}`}>{role}</span>{' '}
          <span class="note">{ROLES[role]}</span>
        </li>
      ))}
    </ul>
  );
}
