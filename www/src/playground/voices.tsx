// Passages of a request's text: the colour, line and label of each voice, and the legend.
import type { ComponentChildren } from 'preact';
import type { Passage } from '../core/core.ts';

/** A voice as it is shown: text of the system message that asks for something has its own. */
type Voice = 'instruction' | 'system' | 'material' | 'examples';

const VOICES: Record<Voice, string> = {
  system: 'asks for something in the system message',
  instruction: 'asks for something elsewhere',
  material: 'is worked on: documents, quotations, code, results of tools',
  examples: 'shows the wanted answer',
};

const SYSTEM = 'gen_ai.system_instructions';

/** Returns the voice of a passage; null if this page does not know the voice. */
export function voiceOf({ field, section }: Passage): Voice | null {
  const voice = field.slice('hedgerow.prompt.'.length);
  if (voice === 'instruction' && section === SYSTEM) return 'system';
  return voice in VOICES ? (voice as Voice) : null;
}

interface VoicedProps {
  passage: Passage;
  children: ComponentChildren;
}

/** Text of a passage. The label and the line below the text say what the colour says. */
export function Voiced({ passage, children }: VoicedProps) {
  const voice = voiceOf(passage);
  if (!voice) return <>{children}</>;
  const { field, section } = passage;
  return (
    <span class={`voice voice-${voice}`} title={`${field}, in ${section}`}>
      <span class="voice-label">{voice}</span>
      {children}
    </span>
  );
}

/** The voices of the passages, with their meanings. */
export function VoicesLegend({ passages }: { passages: readonly Passage[] }) {
  const present = new Set(passages.map(voiceOf));
  const shown = (Object.keys(VOICES) as Voice[]).filter((voice) => present.has(voice));
  if (!shown.length) return null;
  return (
    <ul class="voices" aria-label="Voices">
      {shown.map((voice) => (
        <li key={voice}>
          <span class={`voice voice-${voice}`}>{voice}</span>{' '}
          <span class="note">{VOICES[voice]}</span>
        </li>
      ))}
    </ul>
  );
}
