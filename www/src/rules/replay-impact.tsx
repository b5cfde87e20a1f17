// The impact of the edited rules on recorded traffic that is loaded in the playground. Compares
// counts with the baseline and counts with the edited rules.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, BANDS } from '../api.ts';
import { Empty, Problem } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { BandTag, Panel } from '../components/ui.tsx';
import { count, share } from '../format.ts';
import { inBand, type Progress, replay, type Summary } from '../playground/replay.ts';
import { useReplayFile } from '../playground/replay-file.ts';
import { Effect, type Verdict } from '../policy/effect.ts';
import { EffectTables } from '../policy/effect-tables.tsx';
import { link } from '../router.ts';
import type { Baseline } from './baseline.ts';

interface Summaries {
  before: Summary;
  after: Summary;
  effect: Effect;
}

/** Maximum number of requests that are compared one by one, to bound the memory. */
const MAX_COMPARED = 300_000;

type State =
  | { state: 'idle' }
  /** `progress` is a fraction from 0 to 1. */
  | { state: 'running'; progress: number }
  | { state: 'failed'; error: ApiError }
  /** `from` and `to` are the bundles that were replayed. */
  | ({ state: 'done'; from: string; to: string; file: File } & Summaries);

interface Props {
  baseline: Baseline;
  /** The edited rules; null while there are problems. */
  bundle: string | null;
  /** Whether the edit affects correlations, which are not replayed. */
  affectsCorrelations: boolean;
}

export function ReplayImpact({ baseline, bundle, affectsCorrelations }: Props) {
  const file = useReplayFile();
  const [state, setState] = useState<State>({ state: 'idle' });
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);
  const run = async () => {
    const from = baseline.bundle;
    if (!file || from === null || bundle === null) return;
    const { signal } = (abort.current = new AbortController());
    const report =
      (round: number) =>
      ({ bytes, total }: Progress) =>
        setState({ state: 'running', progress: (round + bytes / total) / 2 });
    setState({ state: 'running', progress: 0 });
    try {
      const verdicts = new Map<number, Verdict>();
      const effect = new Effect();
      const before = await replay(file, from, report(0), signal, (line, verdict) => {
        if (verdicts.size < MAX_COMPARED) verdicts.set(line, verdict);
      });
      const after = await replay(file, bundle, report(1), signal, (line, to) => {
        const from = verdicts.get(line);
        if (from) effect.add({ request: String(line), from, to });
      });
      setState({ state: 'done', from, to: bundle, file, before, after, effect });
    } catch (error) {
      setState(signal.aborted ? { state: 'idle' } : { state: 'failed', error: replayError(error) });
    }
  };
  const isRunning = state.state === 'running';
  const isOutdated =
    state.state === 'done' &&
    (state.from !== baseline.bundle || state.to !== bundle || state.file !== file);
  return (
    <Panel title="Impact on recorded traffic" note={file?.name}>
      <CorrelationNote affectsCorrelations={affectsCorrelations} />
      {!file ? (
        <Empty>
          Load recorded traffic in the <a href={link('playground')}>playground</a> to replay it here
          with the edited rules. The file stays in this page.
        </Empty>
      ) : (
        <div class="row">
          <button
            type="button"
            disabled={isRunning || bundle === null || baseline.bundle === null}
            onClick={() => void run()}
          >
            Replay with these rules
          </button>
          {isRunning && (
            <Running progress={state.progress} onCancel={() => abort.current?.abort()} />
          )}
          {isOutdated && (
            <span class="note">The rules or the file have changed; replay again.</span>
          )}
        </div>
      )}
      {state.state === 'failed' && <Problem error={state.error} />}
      {file && state.state === 'done' && <Comparison {...state} />}
    </Panel>
  );
}

function replayError(error: unknown): ApiError {
  const problem = error instanceof Error ? error.message : String(error);
  const remedy = 'load the file again in the playground';
  return new ApiError(0, 'replay', `the replay failed: ${problem}`, remedy);
}

/** Shows a note that a replay does not evaluate correlations. */
const CorrelationNote = ({ affectsCorrelations }: { affectsCorrelations: boolean }) =>
  affectsCorrelations ? (
    <div class="problem" role="note">
      <p>
        <strong>The edit affects correlations, which a replay does not show.</strong> Requests are
        replayed one by one, without correlations. The panel Check runs their exemplars.
      </p>
    </div>
  ) : (
    <p class="note">Requests are replayed one by one, without correlations.</p>
  );

const Running = ({ progress, onCancel }: { progress: number; onCancel(): void }) => (
  <>
    <progress value={progress} aria-label="Replayed" />{' '}
    <span class="note">{share(progress, 1)}</span>
    <button type="button" class="quiet" onClick={onCancel}>
      Cancel
    </button>
  </>
);

const signed = (change: number) => {
  const sign = change < 0 ? '−' : change > 0 ? '+' : '±';
  return `${sign}${count(Math.abs(change))}`;
};

function Comparison({ before, after, effect }: Summaries) {
  const hits = new Map(before.signatures.map(({ name, hits }) => [name, { from: hits, to: 0 }]));
  for (const { name, hits: to } of after.signatures) {
    hits.set(name, { from: hits.get(name)?.from ?? 0, to });
  }
  const change = ({ from, to }: { from: number; to: number }) => Math.abs(to - from);
  const changed = [...hits]
    .map(([name, counts]): ChangeRow => ({ name, label: name, ...counts }))
    .filter((row) => change(row) > 0)
    .sort((a, b) => change(b) - change(a));
  const bands = BANDS.map((band) => ({
    name: band,
    label: <BandTag band={band} />,
    from: inBand(before, band),
    to: inBand(after, band),
  }));
  return (
    <div class="rule-impact">
      <div>
        <EffectTables effect={effect} toRequest={(line) => `line ${line}`} />
      </div>
      <ChangeTable title="Requests by band" rows={bands} />
      {changed.length ? (
        <ChangeTable title="Hits by signature" rows={changed} />
      ) : (
        <p class="note">
          All signatures have as many hits as before in {count(after.requests)} requests.
        </p>
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

function ChangeTable({ title, rows }: { title: string; rows: ChangeRow[] }) {
  return (
    <Table
      label={title}
      columns={[
        title,
        { title: 'Before', number: true },
        { title: 'After', number: true },
        { title: 'Change', number: true },
      ]}
    >
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
