// The box into which a request is pasted, and how it is read.
import { Panel } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { bytes } from '../format.ts';
import { EXAMPLES, type Example } from './examples.ts';
import { type Choice, type Form, FORMS, type Reading, type Shape, SHAPES } from './input.ts';
import type { InputError } from './problem.ts';

export const DETECT: Choice = { form: null, shape: null, entry: null };

const HINT = `POST /v1/messages HTTP/1.1
content-type: application/json

{"model": "…", "messages": […]}`;

interface Props {
  text: string;
  choice: Choice;
  reading: Reading | null;
  error: InputError | null;
  onText: (text: string) => void;
  onExample: (text: string) => void;
  onChoice: (choice: Choice) => void;
}

export function RequestPanel({ text, choice, reading, error, onText, onExample, onChoice }: Props) {
  const example = EXAMPLES.find((example) => example.text === text);
  const clear = text && (
    <button type="button" class="quiet" onClick={() => onText('')}>
      Clear
    </button>
  );
  return (
    <Panel title="Request" note="It stays in this page: nothing of it is sent or kept." end={clear}>
      <textarea
        class="request"
        aria-label="Raw HTTP request, curl command, HAR entry, or JSON body"
        aria-describedby="request-read"
        rows={14}
        spellcheck={false}
        autocomplete="off"
        placeholder={HINT}
        value={text}
        onInput={(event) => onText(event.currentTarget.value)}
      />
      <div class="fields request-fields">
        <ExamplePicker example={example} onExample={onExample} />
        <FormPicker choice={choice} reading={reading} onChoice={onChoice} />
        {reading && <ShapePicker choice={choice} reading={reading} onChoice={onChoice} />}
        {reading && reading.entries.length > 1 && <EntryPicker choice={choice} reading={reading} onChoice={onChoice} />}
      </div>
      <div id="request-read" class="request-read">
        {example && <p class="note">{example.why}</p>}
        {reading && <Read reading={reading} />}
        {!text.trim() && <p class="note">Paste a raw HTTP request, a curl command, a HAR entry or a whole HAR, a line of recorded traffic, or a JSON body. Or start from an example.</p>}
      </div>
      {error && <Problem error={error} />}
    </Panel>
  );
}

function Read({ reading }: { reading: Reading }) {
  return (
    <>
      <p class="note">
        Read as a {FORMS[reading.form]}: <code>{`${reading.method} ${reading.path}`}</code>, body of {bytes(reading.size)}.
        {reading.entries.length > 1 && ` The HAR has ${reading.entries.length} POST requests.`}
      </p>
      {reading.notes.map((note) => (
        <p key={note} class="note">
          {note}
        </p>
      ))}
    </>
  );
}

function ExamplePicker({ example, onExample }: { example?: Example } & Pick<Props, 'onExample'>) {
  return (
    <label>
      Example
      <select value={example ? EXAMPLES.indexOf(example) : ''} onChange={(event) => onExample(EXAMPLES[Number(event.currentTarget.value)]?.text ?? '')}>
        <option value="" disabled>
          Choose one
        </option>
        {EXAMPLES.map(({ title }, at) => (
          <option key={title} value={at}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

function FormPicker({ choice, reading, onChoice }: Pick<Props, 'choice' | 'reading' | 'onChoice'>) {
  const detected = !choice.form && reading ? ` (${FORMS[reading.form]})` : '';
  return (
    <label>
      Read as
      <select value={choice.form ?? ''} onChange={(event) => onChoice({ ...DETECT, form: (event.currentTarget.value || null) as Form | null })}>
        <option value="">{`Detected${detected}`}</option>
        {Object.entries(FORMS).map(([form, title]) => (
          <option key={form} value={form}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

function ShapePicker({ choice, reading: { form, shape }, onChoice }: { choice: Choice; reading: Reading; onChoice: (choice: Choice) => void }) {
  const usual = form !== 'body' ? 'As its path says' : choice.shape ? 'By its shape' : `By its shape (${SHAPES[shape!].title})`;
  return (
    <label>
      Sent to
      <select value={choice.shape ?? ''} onChange={(event) => onChoice({ ...choice, shape: (event.currentTarget.value || null) as Shape | null })}>
        <option value="">{usual}</option>
        {Object.entries(SHAPES).map(([shape, { title }]) => (
          <option key={shape} value={shape}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

function EntryPicker({ choice, reading, onChoice }: { choice: Choice; reading: Reading; onChoice: (choice: Choice) => void }) {
  return (
    <label>
      Entry
      <select value={reading.entry ?? ''} onChange={(event) => onChoice({ ...choice, entry: Number(event.currentTarget.value) })}>
        {reading.entries.slice(0, 500).map(({ at, label }, number) => (
          <option key={at} value={at}>
            {`${number + 1}. ${label}`}
          </option>
        ))}
      </select>
    </label>
  );
}
