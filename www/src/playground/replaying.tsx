// A file of recorded traffic, replayed: how much of it comes out in which band.
import { useEffect, useState } from 'preact/hooks';
import { ACTIONS, BANDS } from '../api.ts';
import { ActionTag, BandTag, Panel } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { bytes, count, share } from '../format.ts';
import { FileButton } from './file.tsx';
import { setLoadedFile, useLoadedFile } from './loaded.ts';
import { InputError } from './problem.ts';
import { inBand, type Progress, replay, type Summary } from './replay.ts';
import { messageOf, type Rules } from './scoring.ts';

/** The last replay, so that it is still there when one comes back to the view. */
let last: { file: File; digest: string; summary: Summary } | null = null;

type Run = { state: 'running'; progress: Progress | null } | { state: 'done'; summary: Summary } | { state: 'cancelled' } | { state: 'failed'; error: InputError };

function useReplay(file: File | null, rules: Rules | null) {
  const [run, set] = useState<Run | null>(null);
  const [round, again] = useState(0);
  const [abort, setAbort] = useState<AbortController | null>(null);
  useEffect(() => {
    if (!file || !rules) return set(null);
    if (last?.file === file && last.digest === rules.digest) return set({ state: 'done', summary: last.summary });
    const controller = new AbortController();
    const { signal } = controller;
    setAbort(controller);
    set({ state: 'running', progress: null });
    replay(file, rules.text, (progress) => signal.aborted || set({ state: 'running', progress }), signal).then(
      (summary) => {
        last = { file, digest: rules.digest, summary };
        set({ state: 'done', summary });
      },
      (error: unknown) => {
        if (signal.aborted) return signal.reason === CANCELLED && set({ state: 'cancelled' });
        set({ state: 'failed', error: new InputError(`The file could not be replayed: ${messageOf(error)}.`, 'Choose it again; it may have changed meanwhile.') });
      },
    );
    return () => controller.abort();
  }, [file, rules, round]);
  return { run, cancel: () => abort?.abort(CANCELLED), repeat: () => again((round) => round + 1) };
}

const CANCELLED = 'cancelled';

/** Files that are dropped anywhere on the page. Says whether one is being dragged over it. */
function useDrop(onFile: (file: File) => void): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const isFile = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    const drag = (event: DragEvent) => {
      if (!isFile(event)) return;
      event.preventDefault();
      setOver(true);
    };
    document.addEventListener('dragover', drag, { signal });
    document.addEventListener('dragleave', (event) => !event.relatedTarget && setOver(false), { signal });
    document.addEventListener(
      'drop',
      (event) => {
        if (!isFile(event)) return;
        event.preventDefault();
        setOver(false);
        const file = event.dataTransfer?.files[0];
        if (file) onFile(file);
      },
      { signal },
    );
    return () => abort.abort();
  }, []);
  return over;
}

export function ReplayPanel({ rules }: { rules: Rules | null }) {
  const file = useLoadedFile();
  const over = useDrop(setLoadedFile);
  const { run, cancel, repeat } = useReplay(file, rules);
  const end = (
    <>
      {file && (
        <button type="button" class="quiet" onClick={() => setLoadedFile(null)}>
          Remove
        </button>
      )}
      <FileButton accept=".jsonl,.ndjson,.json,.txt,application/x-ndjson" onFile={setLoadedFile}>
        Choose a file
      </FileButton>
    </>
  );
  return (
    <Panel title="Replay" note={file ? <span class="file-name">{`${file.name}, ${bytes(file.size)}`}</span> : 'A file of recorded traffic, through the same rules.'} end={end} class={over ? 'drop over' : 'drop'}>
      {!file && <p class="drop-hint">Drop an NDJSON file anywhere on this page, or choose one: each line an object of method, path, headers, body and, where it is known, label. It is read here and goes nowhere.</p>}
      <p class="note">
        Requests are scored one by one; what correlations count over many is not replayed (<code>hedgerow replay</code> does).
      </p>
      {run?.state === 'running' && file && <Running file={file} progress={run.progress} onCancel={cancel} />}
      {run?.state === 'cancelled' && (
        <div class="row">
          <p role="status">Cancelled.</p>
          <button type="button" onClick={repeat}>
            Replay again
          </button>
        </div>
      )}
      {run?.state === 'failed' && <Problem error={run.error} retry={repeat} />}
      {run?.state === 'done' && <Outcome summary={run.summary} />}
    </Panel>
  );
}

function Running({ file, progress, onCancel }: { file: File; progress: Progress | null; onCancel: () => void }) {
  const { bytes: done = 0, requests = 0, seconds = 0 } = progress ?? {};
  return (
    <div class="row running">
      <progress aria-label={`Replaying ${file.name}`} max={Math.max(1, file.size)} value={done} />
      <span class="note number">
        {share(done, file.size)}, {count(requests)} requests, {count(seconds ? Math.round(requests / seconds) : 0)} per second
      </span>
      <button type="button" onClick={onCancel}>
        Cancel
      </button>
    </div>
  );
}

function Outcome({ summary }: { summary: Summary }) {
  const rate = summary.seconds ? Math.round(summary.requests / summary.seconds) : summary.requests;
  return (
    <>
      <p class="outcome" role="status">
        Lines: {count(summary.requests)}, in {summary.seconds.toFixed(1)} s ({count(rate)} per second). No LLM calls: {count(summary.other)}. Unreadable: {count(summary.unreadable)}.
      </p>
      <div class="outcomes">
        <Outcomes summary={summary} />
        {summary.labels.length > 0 && <Labels summary={summary} />}
        <Signatures summary={summary} />
        {summary.problems.length > 0 && <Unreadable summary={summary} />}
      </div>
    </>
  );
}

const bandColumns = BANDS.map((band) => ({ title: band, number: true }));

function Outcomes({ summary }: { summary: Summary }) {
  const total = BANDS.reduce((sum, band) => sum + inBand(summary, band), 0);
  const actions = ACTIONS.filter((action) => BANDS.some((band) => summary.outcomes[band][action]));
  return (
    <section aria-label="By band and action">
      <h3>By band and action</h3>
      <Table
        label="Table by band and action"
        columns={[
          'Band',
          { title: 'Requests', number: true },
          { title: 'Share', number: true },
          ...actions.map((action) => ({ title: <ActionTag action={action} />, number: true })),
        ]}
      >
        {BANDS.map((band) => (
          <tr key={band}>
            <th scope="row">
              <BandTag band={band} />
            </th>
            <td class="number">{count(inBand(summary, band))}</td>
            <td class="number">{share(inBand(summary, band), total)}</td>
            {actions.map((action) => (
              <td key={action} class="number">
                {count(summary.outcomes[band][action])}
              </td>
            ))}
          </tr>
        ))}
      </Table>
    </section>
  );
}

function Labels({ summary }: { summary: Summary }) {
  return (
    <section aria-label="By label">
      <h3>By label</h3>
      <Table label="Table by label" frame="tall" columns={['Label', ...bandColumns, { title: 'no LLM call', number: true }]}>
        {summary.labels.map(({ label, bands, other }) => (
          <tr key={label}>
            <th scope="row">{label.slice(0, 120)}</th>
            {BANDS.map((band) => (
              <td key={band} class="number">
                {count(bands[band])}
              </td>
            ))}
            <td class="number">{count(other)}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

function Signatures({ summary }: { summary: Summary }) {
  return (
    <section aria-label="Signatures by hits">
      <h3>Signatures by hits</h3>
      {summary.signatures.length === 0 ? (
        <p class="note">No signature holds for any of them.</p>
      ) : (
        <Table label="Table of signatures by hits" frame="tall" columns={['Signature', { title: 'Hits', number: true }, { title: 'Of all requests', number: true }]}>
          {summary.signatures.map(({ name, hits }) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="number">{count(hits)}</td>
              <td class="number">{share(hits, summary.requests)}</td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}

function Unreadable({ summary }: { summary: Summary }) {
  return (
    <section aria-label="Lines that cannot be read">
      <h3>Lines that cannot be read</h3>
      <ul class="problems">
        {summary.problems.map(({ line, problem }) => (
          <li key={line}>
            Line {count(line)}: {problem}
          </li>
        ))}
      </ul>
      {summary.unreadable > summary.problems.length && <p class="note">and {count(summary.unreadable - summary.problems.length)} more</p>}
    </section>
  );
}
