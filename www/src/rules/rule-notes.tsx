// The description of a rule and its false positives, for the evidence of a decision.
import { useState } from 'preact/hooks';
import { Async, Problem } from '../components/async-states.tsx';
import { pathOf, useShipped } from './drafts.ts';
import { TextList, useRules } from './rule-details.tsx';

/** The notes of the rule with a name. They are loaded when the user opens them. */
export function RuleNotes({ name }: { name: string }) {
  const [isOpen, setIsOpen] = useState(false);
  return (
    <details onToggle={(event) => setIsOpen(event.currentTarget.open)}>
      <summary class="where">Description and false positives</summary>
      {isOpen && <Loaded name={name} />}
    </details>
  );
}

function Loaded({ name }: { name: string }) {
  const files = useShipped();
  return (
    <Async loaded={files} lines={3}>
      {(files) => {
        const path = pathOf(files, name);
        return path ? <Notes text={files[path]!} name={name} /> : <Unknown />;
      }}
    </Async>
  );
}

const Unknown = () => (
  <p class="note">
    This console was not built with this rule. Search the rules of the release that decided.
  </p>
);

function Notes({ text, name }: { text: string; name: string }) {
  const parsed = useRules(text, !name.startsWith('list_'));
  if (!parsed) return name.startsWith('list_') ? <p class="note">A list; open it above.</p> : null;
  if ('error' in parsed) return <Problem error={parsed.error} />;
  return (
    <>
      {parsed.rules.map(({ description, falsePositives }, index) => (
        <div key={index}>
          <p>{description}</p>
          <h4>False positives</h4>
          <TextList items={falsePositives} />
        </div>
      ))}
    </>
  );
}
