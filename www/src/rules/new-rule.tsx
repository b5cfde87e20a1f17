// Creates a rule from a template. The family and the name determine the file.
import { useState } from 'preact/hooks';
import type { Files } from './drafts.ts';
import { FAMILIES, NAME_PATTERN, ruleTemplate } from './rule-template.ts';

interface Props {
  files: Files;
  onCreate(path: string, text: string): void;
  onCancel(): void;
}

export function NewRule({ files, onCreate, onCancel }: Props) {
  const [problem, setProblem] = useState('');
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const family = String(form.get('family'));
    const name = String(form.get('name'));
    const path = `${family}/${name}.yml`;
    if (Object.hasOwn(files, path)) {
      return setProblem(`${path} exists already. Choose another name.`);
    }
    const today = new Date().toISOString().slice(0, 10);
    onCreate(path, ruleTemplate(family, name, crypto.randomUUID(), today));
  };
  return (
    <form class="panel rule-new" aria-label="New rule" onSubmit={submit}>
      <div class="fields">
        <label>
          Family
          <select name="family">
            {FAMILIES.map((family) => (
              <option key={family}>{family}</option>
            ))}
          </select>
        </label>
        <label>
          Name, in a-z, 0-9 and _
          <input
            name="name"
            required
            pattern={NAME_PATTERN}
            maxLength={60}
            placeholder="training_purpose"
            autocomplete="off"
            spellcheck={false}
            aria-describedby="rule-new-problem"
          />
        </label>
        <button type="submit" class="primary">
          Create
        </button>
        <button type="button" class="quiet" onClick={onCancel}>
          Cancel
        </button>
      </div>
      <p id="rule-new-problem" class="note" role="status">
        {problem ||
          'The template passes the check. It has two exemplars that match and two near misses.'}
      </p>
    </form>
  );
}
