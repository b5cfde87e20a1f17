// The comparisons of a signature, and whether each comparison holds for the request.
import { useEffect, useState } from 'preact/hooks';
import type { Evidence } from '../api.ts';
import { Empty, Loading, Problem } from '../components/async-states.tsx';
import { Panel } from '../components/ui.tsx';
import type { Explained, Explanation } from '../core/core.ts';
import { byteRange, count, decibans } from '../format.ts';
import { link } from '../router.ts';
import { InputError } from './input-error.ts';
import type { QueryResult, Rules } from './use-scoring.ts';

/** Maximum number of requests in a body that is explained. Explaining a request takes long. */
export const MAX_EXPLAINED = 20;

interface Props {
  explained: QueryResult<unknown, Explained>;
  /** Whether the body has more than `MAX_EXPLAINED` requests. */
  tooMany: boolean;
  rules: Rules | null;
  /** Fields whose evidence is in the body. */
  textFields: ReadonlySet<string>;
  /** The selected signature. */
  picked: string | null;
  onPick: (name: string) => void;
}

export function ConditionsPanel(props: Props) {
  return (
    <Panel title="Conditions" note="All selections and comparisons of a signature.">
      <Content {...props} />
    </Panel>
  );
}

function Content({ explained, tooMany, rules, textFields, picked, onPick }: Props) {
  const [entry, setEntry] = useState(0);
  const requests = explained && 'answer' in explained ? explained.answer.requests : [];
  useEffect(() => setEntry((entry) => (entry < requests.length ? entry : 0)), [requests.length]);
  if (tooMany) {
    return (
      <Empty>
        <p>
          Conditions are shown for batches of up to {MAX_EXPLAINED} requests. Paste a single request
          of the batch.
        </p>
      </Empty>
    );
  }
  if (explained && 'problem' in explained) {
    const error = new InputError(
      `The request could not be explained: ${explained.problem}.`,
      'Reload the page, or paste a smaller request.',
    );
    return <Problem error={error} />;
  }
  const explanations = requests[entry] ?? requests[0];
  const explanation = explanations && selectExplanation(explanations, picked);
  if (!explanations || !explanation) return <Loading lines={6} />;
  return (
    <>
      {requests.length > 1 && (
        <EntryPicker entries={requests.length} entry={entry} onEntry={setEntry} />
      )}
      <SignaturePicker explanations={explanations} picked={explanation.name} onPick={onPick} />
      <Conditions explanation={explanation} rules={rules} textFields={textFields} />
    </>
  );
}

/**
 * Returns the explanation of the picked signature. Without one, returns a signature that holds,
 * preferably with evidence.
 */
function selectExplanation(
  explanations: readonly Explanation[],
  picked: string | null,
): Explanation | undefined {
  return (
    explanations.find(({ name }) => name === picked) ??
    explanations.find(({ holds, weight }) => holds && weight > 0) ??
    explanations.find(({ holds }) => holds) ??
    explanations[0]
  );
}

interface EntryPickerProps {
  entries: number;
  entry: number;
  onEntry: (entry: number) => void;
}

function EntryPicker({ entries, entry, onEntry }: EntryPickerProps) {
  return (
    <div class="fields">
      <label>
        Request in the batch
        <select value={entry} onChange={(event) => onEntry(Number(event.currentTarget.value))}>
          {Array.from({ length: entries }, (_, index) => (
            <option key={index} value={index}>
              {index + 1}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

interface SignaturePickerProps {
  explanations: readonly Explanation[];
  picked: string;
  onPick: (name: string) => void;
}

function SignaturePicker({ explanations, picked, onPick }: SignaturePickerProps) {
  const [search, setSearch] = useState('');
  const term = search.trim().toLowerCase().replaceAll(' ', '_');
  const found = explanations.filter(({ name }) => name.includes(term));
  const groups = [
    { title: 'Hold', members: found.filter(({ holds }) => holds) },
    { title: 'Do not hold', members: found.filter(({ holds }) => !holds) },
  ];
  return (
    <div class="signature-picker">
      <label class="search">
        Find a signature
        <input
          type="search"
          value={search}
          spellcheck={false}
          autocomplete="off"
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      </label>
      <label>
        Signature
        <select
          size={8}
          value={found.some(({ name }) => name === picked) ? picked : ''}
          onChange={(event) => onPick(event.currentTarget.value)}
        >
          {groups.map(({ title, members }) => (
            <optgroup key={title} label={`${title} (${count(members.length)})`}>
              {members.map(({ name, weight }) => (
                <option key={name} value={name}>
                  {`${name}  ${decibans(weight)}`}
                </option>
              ))}
            </optgroup>
          ))}
        </select>
      </label>
    </div>
  );
}

const Holds = ({ holds }: { holds: boolean }) => (
  <span class={`holds ${holds ? 'yes' : 'no'}`}>{holds ? '✓ holds' : '✗ does not hold'}</span>
);

interface ConditionsProps extends Pick<Props, 'rules' | 'textFields'> {
  explanation: Explanation;
}

function Conditions({ explanation, rules, textFields }: ConditionsProps) {
  const { name, weight, holds, selections } = explanation;
  const signature = rules?.signatures.get(name);
  return (
    <div class="conditions">
      <h3>
        <span class="name">
          {rules?.file ? name : <a href={link('rules', { rule: name })}>{name}</a>}
        </span>{' '}
        <Holds holds={holds} />{' '}
        <span class="note">{decibans(weight)}</span>
      </h3>
      {signature && (
        <p>
          {signature.title}. <span class="note">Condition:</span> <code>{signature.condition}</code>
        </p>
      )}
      <ul class="selections">
        {selections.map((selection) => (
          <li key={selection.name}>
            <p class="selection">
              <code>{selection.name}</code> <Holds holds={selection.holds} />
            </p>
            <Comparisons key={name} comparisons={selection.tests} textFields={textFields} />
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Number of comparisons that are shown before the user clicks “Show more”. */
const COLLAPSED_ROWS = 6;

interface ComparisonsProps extends Pick<Props, 'textFields'> {
  comparisons: Explanation['selections'][number]['tests'];
}

/** Shows comparisons, first those that hold. Long lists are collapsed. */
function Comparisons({ comparisons, textFields }: ComparisonsProps) {
  const [isOpen, setIsOpen] = useState(false);
  const sorted = [
    ...comparisons.filter(({ holds }) => holds),
    ...comparisons.filter(({ holds }) => !holds),
  ];
  const isShort = comparisons.length <= COLLAPSED_ROWS + 1;
  const shown = isOpen || isShort ? sorted : sorted.slice(0, COLLAPSED_ROWS);
  return (
    <>
      <ul class="comparisons">
        {shown.map(({ test, holds, evidence }, index) => (
          <li key={index}>
            <Holds holds={holds} /> <code>{test}</code>{' '}
            {evidence && evidence.end > evidence.start && (
              <Range evidence={evidence} isText={textFields.has(evidence.field)} />
            )}
          </li>
        ))}
      </ul>
      {shown.length < sorted.length && (
        <button type="button" class="link" onClick={() => setIsOpen(true)}>
          Show {count(sorted.length - shown.length)} more comparisons
        </button>
      )}
    </>
  );
}

const Range = ({ evidence, isText }: { evidence: Evidence; isText: boolean }) => (
  <span class="note">{`${byteRange(evidence)} of the ${isText ? 'body' : 'value'}`}</span>
);
