// The input box for a request, and the options and results of parsing it.
import { Problem } from '../components/async-states.tsx';
import { Panel } from '../components/ui.tsx';
import { bytes } from '../format.ts';
import { type Example, EXAMPLES } from './examples.ts';
import type { InputError } from './input-error.ts';
import {
  BODY_SHAPES,
  type BodyShape,
  INPUT_FORMATS,
  type InputFormat,
  type ParsedInput,
  type ParseOptions,
} from './parse-input.ts';

export const DETECT_ALL: ParseOptions = { format: null, shape: null, entry: null };

const PLACEHOLDER = `POST /v1/messages HTTP/1.1
content-type: application/json

{"model": "…", "messages": […]}`;

/** Maximum number of HAR entries that the picker offers. */
const MAX_ENTRIES = 500;

interface Props {
  text: string;
  options: ParseOptions;
  parsed: ParsedInput | null;
  error: InputError | null;
  onText: (text: string) => void;
  onExample: (text: string) => void;
  onOptions: (options: ParseOptions) => void;
}

export function RequestPanel(props: Props) {
  const { text, options, parsed, error, onText, onExample, onOptions } = props;
  const example = EXAMPLES.find((example) => example.text === text);
  const clear = text && (
    <button type="button" class="quiet" onClick={() => onText('')}>
      Clear
    </button>
  );
  return (
    <Panel
      title="Request"
      note="The request stays in this page: it is not sent or stored."
      end={clear}
    >
      <textarea
        class="request"
        aria-label="Raw HTTP request, curl command, HAR entry, or JSON body"
        aria-describedby="request-summary"
        rows={14}
        spellcheck={false}
        autocomplete="off"
        placeholder={PLACEHOLDER}
        value={text}
        onInput={(event) => onText(event.currentTarget.value)}
      />
      <div class="fields request-fields">
        <ExamplePicker example={example} onExample={onExample} />
        <FormatPicker options={options} parsed={parsed} onOptions={onOptions} />
        {parsed && <ShapePicker options={options} parsed={parsed} onOptions={onOptions} />}
        {parsed && parsed.entries.length > 1 && (
          <EntryPicker options={options} parsed={parsed} onOptions={onOptions} />
        )}
      </div>
      <div id="request-summary" class="request-summary">
        {example && <p class="note">{example.why}</p>}
        {parsed && <ParseSummary parsed={parsed} />}
        {!text.trim() && (
          <p class="note">
            Paste a raw HTTP request, a curl command, a HAR or one of its entries, a line of
            recorded traffic, or a JSON body. Or start from an example.
          </p>
        )}
      </div>
      {error && <Problem error={error} />}
    </Panel>
  );
}

function ParseSummary({ parsed }: { parsed: ParsedInput }) {
  return (
    <>
      <p class="note">
        Parsed as a {INPUT_FORMATS[parsed.format]}: <code>{`${parsed.method} ${parsed.path}`}</code>
        , body of {bytes(parsed.size)}.
        {parsed.entries.length > 1 && ` The HAR has ${parsed.entries.length} POST requests.`}
      </p>
      {parsed.notes.map((note) => (
        <p key={note} class="note">
          {note}
        </p>
      ))}
    </>
  );
}

interface ExamplePickerProps {
  example?: Example;
  onExample: (text: string) => void;
}

function ExamplePicker({ example, onExample }: ExamplePickerProps) {
  return (
    <label>
      Example
      <select
        value={example ? EXAMPLES.indexOf(example) : ''}
        onChange={(event) => onExample(EXAMPLES[Number(event.currentTarget.value)]?.text ?? '')}
      >
        <option value="" disabled>
          Choose one
        </option>
        {EXAMPLES.map(({ title }, index) => (
          <option key={title} value={index}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

function FormatPicker({
  options,
  parsed,
  onOptions,
}: Pick<Props, 'options' | 'parsed' | 'onOptions'>) {
  const detected = !options.format && parsed ? ` (${INPUT_FORMATS[parsed.format]})` : '';
  const choose = (value: string) =>
    onOptions({ ...DETECT_ALL, format: (value || null) as InputFormat | null });
  return (
    <label>
      Format
      <select value={options.format ?? ''} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">{`Detected${detected}`}</option>
        {Object.entries(INPUT_FORMATS).map(([format, title]) => (
          <option key={format} value={format}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

interface PickerProps {
  options: ParseOptions;
  parsed: ParsedInput;
  onOptions: (options: ParseOptions) => void;
}

function ShapePicker({ options, parsed: { format, shape }, onOptions }: PickerProps) {
  const detected = options.shape ? '' : ` (${BODY_SHAPES[shape ?? 'chat'].title})`;
  const automatic = format === 'body' ? `Detected from the body${detected}` : 'Path of the request';
  const choose = (value: string) =>
    onOptions({ ...options, shape: (value || null) as BodyShape | null });
  return (
    <label>
      API
      <select value={options.shape ?? ''} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">{automatic}</option>
        {Object.entries(BODY_SHAPES).map(([shape, { title }]) => (
          <option key={shape} value={shape}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

function EntryPicker({ options, parsed, onOptions }: PickerProps) {
  return (
    <label>
      Entry
      <select
        value={parsed.entry ?? ''}
        onChange={(event) => onOptions({ ...options, entry: Number(event.currentTarget.value) })}
      >
        {parsed.entries.slice(0, MAX_ENTRIES).map(({ index, label }, position) => (
          <option key={index} value={index}>
            {`${position + 1}. ${label}`}
          </option>
        ))}
      </select>
    </label>
  );
}
