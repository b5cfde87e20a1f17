// Every comparison of a signature, true or false for the request.
import { useEffect, useState } from 'preact/hooks';
import type { Evidence } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Empty, Loading, Problem } from '../components/states.tsx';
import type { Explained, Explanation } from '../core/core.ts';
import { byteRange } from '../decisions/range.ts';
import { count, decibans } from '../format.ts';
import { InputError } from './problem.ts';
import type { Answered, Rules } from './scoring.ts';

interface Props {
  explained: Answered<unknown, Explained>;
  /** How many requests are in the body, and whether they are too many to explain. */
  tooMany: boolean;
  rules: Rules | null;
  /** Fields whose evidence lies in the body. */
  textFields: ReadonlySet<string>;
  picked: string | null;
  onPick: (name: string) => void;
}

export function ConditionsPanel({ explained, tooMany, rules, textFields, picked, onPick }: Props) {
  const [entry, setEntry] = useState(0);
  const answer = explained && 'answer' in explained ? explained.answer : null;
  const requests = answer?.requests ?? [];
  useEffect(() => setEntry((entry) => (entry < requests.length ? entry : 0)), [requests.length]);
  const all = requests[entry] ?? requests[0];
  const own = all?.find(({ name }) => name === picked) ?? all?.find(({ holds, weight }) => holds && weight > 0) ?? all?.find(({ holds }) => holds) ?? all?.[0];
  return (
    <Panel title="Conditions" note="Of one signature, each selection and comparison.">
      {tooMany ? (
        <Empty>
          <p>Conditions are shown for uploads of up to {MOST_EXPLAINED} requests. Paste one of them by itself.</p>
        </Empty>
      ) : explained && 'problem' in explained ? (
        <Problem error={new InputError(`This could not be explained: ${explained.problem}.`, 'Reload the page, or paste a smaller request.')} />
      ) : !all || !own ? (
        <Loading lines={6} />
      ) : (
        <>
          {requests.length > 1 && <EntryPicker entries={requests.length} entry={entry} onEntry={setEntry} />}
          <SignaturePicker all={all} picked={own.name} onPick={onPick} />
          <Conditions own={own} rules={rules} textFields={textFields} />
        </>
      )}
    </Panel>
  );
}

export const MOST_EXPLAINED = 20;

function EntryPicker({ entries, entry, onEntry }: { entries: number; entry: number; onEntry: (entry: number) => void }) {
  return (
    <div class="fields">
      <label>
        Request of the upload
        <select value={entry} onChange={(event) => onEntry(Number(event.currentTarget.value))}>
          {Array.from({ length: entries }, (_, at) => (
            <option key={at} value={at}>
              {at + 1}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

function SignaturePicker({ all, picked, onPick }: { all: readonly Explanation[]; picked: string; onPick: (name: string) => void }) {
  const [search, setSearch] = useState('');
  const found = all.filter(({ name }) => name.includes(search.trim().toLowerCase().replaceAll(' ', '_')));
  const groups = [
    { title: 'Hold', own: found.filter(({ holds }) => holds) },
    { title: 'Do not hold', own: found.filter(({ holds }) => !holds) },
  ];
  return (
    <div class="signature-picker">
      <label class="search">
        Find a signature
        <input type="search" value={search} spellcheck={false} autocomplete="off" onInput={(event) => setSearch(event.currentTarget.value)} />
      </label>
      <label>
        Signature
        <select size={8} value={found.some(({ name }) => name === picked) ? picked : ''} onChange={(event) => onPick(event.currentTarget.value)}>
          {groups.map(({ title, own }) => (
            <optgroup key={title} label={`${title} (${count(own.length)})`}>
              {own.map(({ name, weight }) => (
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

const Holds = ({ holds }: { holds: boolean }) => <span class={`holds ${holds ? 'yes' : 'no'}`}>{holds ? '✓ holds' : '✗ does not hold'}</span>;

function Conditions({ own, rules, textFields }: { own: Explanation } & Pick<Props, 'rules' | 'textFields'>) {
  const about = rules?.signatures.get(own.name);
  return (
    <div class="conditions">
      <h3>
        <span class="name">{own.name}</span> <Holds holds={own.holds} /> <span class="note">{decibans(own.weight)}</span>
      </h3>
      {about && (
        <p>
          {about.title}. <span class="note">Condition:</span> <code>{about.condition}</code>
        </p>
      )}
      <ul class="selections">
        {own.selections.map(({ name, holds, tests }) => (
          <li key={name}>
            <p class="selection">
              <code>{name}</code> <Holds holds={holds} />
            </p>
            <Tests key={own.name} tests={tests} textFields={textFields} />
          </li>
        ))}
      </ul>
    </div>
  );
}

const FEW = 6;

/** Those that hold first; of long lists the start, until all is asked for. */
function Tests({ tests, textFields }: { tests: Explanation['selections'][number]['tests']; textFields: ReadonlySet<string> }) {
  const [open, setOpen] = useState(false);
  const sorted = [...tests.filter(({ holds }) => holds), ...tests.filter(({ holds }) => !holds)];
  const shown = open || tests.length <= FEW + 1 ? sorted : sorted.slice(0, FEW);
  return (
    <>
      <ul class="tests">
        {shown.map(({ test, holds, evidence }, at) => (
          <li key={at}>
            <Holds holds={holds} /> <code>{test}</code> {evidence && evidence.end > evidence.start && <Range evidence={evidence} isText={textFields.has(evidence.field)} />}
          </li>
        ))}
      </ul>
      {shown.length < sorted.length && (
        <button type="button" class="link" onClick={() => setOpen(true)}>
          Show {count(sorted.length - shown.length)} more comparisons
        </button>
      )}
    </>
  );
}

const Range = ({ evidence, isText }: { evidence: Evidence; isText: boolean }) => (
  <span class="note">{`${byteRange(evidence)} of the ${isText ? 'body' : 'value'}`}</span>
);
