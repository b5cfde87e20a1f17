// What the edited rules make of the traffic that was loaded in the playground, beside what the others make of it.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, BANDS } from '../api.ts';
import { BandTag, Panel } from '../components/parts.tsx';
import { Empty, Problem } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { count, share } from '../format.ts';
import { useLoadedFile } from '../playground/loaded.ts';
import { inBand, replay, type Summary } from '../playground/replay.ts';
import { link } from '../router.ts';
import type { Reference } from './reference.ts';

interface Both {
  before: Summary;
  after: Summary;
}

type State = { state: 'idle' } | { state: 'running'; part: number } | { state: 'failed'; error: ApiError } | ({ state: 'done'; from: string; to: string; file: File } & Both);

/** `counts` tells that the difference is about correlations. */
export function Effect({ reference, bundle, counts }: { reference: Reference; bundle: string | null; counts: boolean }) {
  const file = useLoadedFile();
  const [state, set] = useState<State>({ state: 'idle' });
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);
  const run = async () => {
    if (!file || reference.bundle === null || bundle === null) return;
    const own = (abort.current = new AbortController());
    const told = (round: number) => ({ bytes, total }: { bytes: number; total: number }) => set({ state: 'running', part: (round + bytes / total) / 2 });
    set({ state: 'running', part: 0 });
    try {
      const before = await replay(file, reference.bundle, told(0), own.signal);
      const after = await replay(file, bundle, told(1), own.signal);
      set({ state: 'done', from: reference.bundle, to: bundle, file, before, after });
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      set(own.signal.aborted ? { state: 'idle' } : { state: 'failed', error: new ApiError(0, 'replay', `the replay failed: ${problem}`, 'load the file again in the playground') });
    }
  };
  return (
    <Panel title="Effect on recorded traffic" note={file?.name}>
      <Alone counts={counts} />
      {!file ? (
        <Empty>
          Load recorded traffic in the <a href={link('playground')}>playground</a>; then these rules can be replayed against it here. It stays in this page.
        </Empty>
      ) : (
        <div class="row">
          <button type="button" disabled={state.state === 'running' || bundle === null || reference.bundle === null} onClick={() => void run()}>
            Replay with these rules
          </button>
          {state.state === 'running' && <Running part={state.part} onCancel={() => abort.current?.abort()} />}
          {state.state === 'done' && (state.from !== reference.bundle || state.to !== bundle || state.file !== file) && <span class="note">The rules or the file are others by now; replay again.</span>}
        </div>
      )}
      {state.state === 'failed' && <Problem error={state.error} />}
      {file && state.state === 'done' && <Compared before={state.before} after={state.after} />}
    </Panel>
  );
}

/** A replay has no state from one request to the next. */
const Alone = ({ counts }: { counts: boolean }) =>
  counts ? (
    <div class="problem" role="note">
      <p>
        <strong>The difference is about correlations, too, which a replay does not show.</strong> It takes requests one by one; what correlations count is not replayed. Their exemplars are tried under Check.
      </p>
    </div>
  ) : (
    <p class="note">Requests are replayed one by one; what correlations count is not replayed.</p>
  );

const Running = ({ part, onCancel }: { part: number; onCancel(): void }) => (
  <>
    <progress value={part} aria-label="Replayed" /> <span class="note">{share(part, 1)}</span>
    <button type="button" class="quiet" onClick={onCancel}>
      Cancel
    </button>
  </>
);

const signed = (change: number) => `${change < 0 ? '−' : change > 0 ? '+' : '±'}${count(Math.abs(change))}`;

function Compared({ before, after }: Both) {
  const hits = new Map(before.signatures.map(({ name, hits }) => [name, [hits, 0] as [number, number]]));
  for (const { name, hits: now } of after.signatures) hits.set(name, [hits.get(name)?.[0] ?? 0, now]);
  const moved = [...hits].filter(([, [from, to]]) => from !== to).sort(([, a], [, b]) => Math.abs(b[1] - b[0]) - Math.abs(a[1] - a[0]));
  return (
    <div class="rule-effect">
      <ChangeTable what="Requests by band" rows={BANDS.map((band) => ({ name: band, label: <BandTag band={band} />, from: inBand(before, band), to: inBand(after, band) }))} />
      {moved.length ? (
        <ChangeTable what="Hits by signature" rows={moved.map(([name, [from, to]]) => ({ name, label: name, from, to }))} />
      ) : (
        <p class="note">No signature hits more or fewer of the {count(after.requests)} requests than before.</p>
      )}
    </div>
  );
}

interface ChangeRow {
  name: string;
  label: ComponentChildren;
  from: number;
  to: number;
}

function ChangeTable({ what, rows }: { what: string; rows: ChangeRow[] }) {
  return (
    <Table label={what} columns={[what, { title: 'Before', number: true }, { title: 'After', number: true }, { title: 'Change', number: true }]}>
      {rows.map(({ name, label, from, to }) => (
        <tr key={name}>
          <th scope="row">{label}</th>
          <td class="number">{count(from)}</td>
          <td class="number">{count(to)}</td>
          <td class="number">{signed(to - from)}</td>
        </tr>
      ))}
    </Table>
  );
}
