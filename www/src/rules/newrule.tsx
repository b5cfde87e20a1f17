// A new rule from a template: its family and name make the file.
import { useState } from 'preact/hooks';
import type { Files } from './store.ts';
import { FAMILIES, NAME, template } from './template.ts';

export function NewRule({ files, onMake, onCancel }: { files: Files; onMake(path: string, text: string): void; onCancel(): void }) {
  const [problem, setProblem] = useState('');
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const [family, name] = [String(form.get('family')), String(form.get('name'))];
    const path = `${family}/${name}.yml`;
    if (Object.hasOwn(files, path)) return setProblem(`There is ${path} already. Choose another name.`);
    onMake(path, template(family, name, crypto.randomUUID(), new Date().toISOString().slice(0, 10)));
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
          <input name="name" required pattern={NAME} maxLength={60} placeholder="what_it_finds" autocomplete="off" spellcheck={false} aria-describedby="rule-new-problem" />
        </label>
        <button type="submit" class="primary">
          Begin
        </button>
        <button type="button" class="quiet" onClick={onCancel}>
          Cancel
        </button>
      </div>
      <p id="rule-new-problem" class="note" role="status">
        {problem || 'It begins with a template that passes the check: two exemplars that match, two near misses.'}
      </p>
    </form>
  );
}
