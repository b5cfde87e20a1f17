// Replays a file of recorded traffic, and counts requests by band, label and signature.
import { useEffect, useState } from 'preact/hooks';
import { ACTIONS, BANDS } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { ActionTag, BandTag, Panel } from '../components/ui.tsx';
import { bytes, count, share } from '../format.ts';
import { FileButton } from './file-button.tsx';
import { InputError } from './input-error.ts';
import { inBand, type Progress, replay, type Summary } from './replay.ts';
import { setReplayFile, useReplayFile } from './replay-file.ts';
import { messageOf, type Rules } from './use-scoring.ts';

/** The last replay, which is shown again when the user returns to the view. */
let lastReplay: { file: File; digest: string; summary: Summary } | null = null;

type Run =
  | { state: 'running'; progress: Progress | null }
  | { state: 'done'; summary: Summary }
  | { state: 'cancelled' }
  | { state: 'failed'; error: InputError };

const CANCELLED = 'cancelled';

function useReplay(file: File | null, rules: Rules | null) {
  const [run, setRun] = useState<Run | null>(null);
  const [attempt, setAttempt] = useState(0);
  const [abort, setAbort] = useState<AbortController | null>(null);
  useEffect(() => {
    if (!file || !rules) return setRun(null);
    if (lastReplay?.file === file && lastReplay.digest === rules.digest) {
      return setRun({ state: 'done', summary: lastReplay.summary });
    }
    const controller = new AbortController();
    const { signal } = controller;
    setAbort(controller);
    setRun({ state: 'running', progress: null });
    const onProgress = (progress: Progress) =>
      signal.aborted || setRun({ state: 'running', progress });
    replay(file, rules.text, onProgress, signal).then(
      (summary) => {
        lastReplay = { file, digest: rules.digest, summary };
        setRun({ state: 'done', summary });
      },
      (error: unknown) => {
        if (signal.aborted) return signal.reason === CANCELLED && setRun({ state: 'cancelled' });
        const message = `The file could not be replayed: ${messageOf(error)}.`;
        const remedy = 'Choose the file again; it may have changed.';
        setRun({ state: 'failed', error: new InputError(message, remedy) });
      },
    );
    return () => controller.abort();
  }, [file, rules, attempt]);
  return {
    run,
    cancel: () => abort?.abort(CANCELLED),
    repeat: () => setAttempt((attempt) => attempt + 1),
  };
}

/**
 * Accepts files that are dropped anywhere on the page. Returns whether a file is dragged over the
 * page.
 */
function useDrop(onFile: (file: File) => void): boolean {
  const [isOver, setIsOver] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const hasFile = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    const onDrag = (event: DragEvent) => {
      if (!hasFile(event)) return;
      event.preventDefault();
      setIsOver(true);
    };
    const onLeave = (event: DragEvent) => !event.relatedTarget && setIsOver(false);
    const onDrop = (event: DragEvent) => {
      if (!hasFile(event)) return;
      event.preventDefault();
      setIsOver(false);
      const file = event.dataTransfer?.files[0];
      if (file) onFile(file);
    };
    document.addEventListener('dragover', onDrag, { signal });
    document.addEventListener('dragleave', onLeave, { signal });
    document.addEventListener('drop', onDrop, { signal });
    return () => abort.abort();
  }, []);
  return isOver;
}

export function ReplayPanel({ rules }: { rules: Rules | null }) {
  const file = useReplayFile();
  const isOver = useDrop(setReplayFile);
  const { run, cancel, repeat } = useReplay(file, rules);
  const controls = (
    <>
      {file && (
        <button type="button" class="quiet" onClick={() => setReplayFile(null)}>
          Remove
        </button>
      )}
      <FileButton accept=".jsonl,.ndjson,.json,.txt,application/x-ndjson" onFile={setReplayFile}>
        Choose a file
      </FileButton>
    </>
  );
  const note = file ? (
    <span class="file-name">{`${file.name}, ${bytes(file.size)}`}</span>
  ) : (
    'Scores a file of recorded traffic with the same rules.'
  );
  return (
    <Panel title="Replay" note={note} end={controls} class={isOver ? 'drop drag-over' : 'drop'}>
      {!file && (
        <p class="drop-hint">
          Drop an NDJSON file anywhere on this page, or choose one. Each line is an object with
          method, path, headers, body and an optional label. The file stays in this page.
        </p>
      )}
      <p class="note">
        Requests are scored one by one. <code>hedgerow replay</code> includes correlations.
      </p>
      {run?.state === 'running' && file && (
        <Running file={file} progress={run.progress} onCancel={cancel} />
      )}
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

interface RunningProps {
  file: File;
  progress: Progress | null;
  onCancel: () => void;
}

function Running({ file, progress, onCancel }: RunningProps) {
  const { bytes: done = 0, requests = 0, seconds = 0 } = progress ?? {};
  const rate = seconds ? Math.round(requests / seconds) : 0;
  return (
    <div class="row running">
      <progress aria-label={`Replaying ${file.name}`} max={Math.max(1, file.size)} value={done} />
      <span class="note number">
        {share(done, file.size)}, {count(requests)} requests, {count(rate)} per second
      </span>
      <button type="button" onClick={onCancel}>
        Cancel
      </button>
    </div>
  );
}

function Outcome({ summary }: { summary: Summary }) {
  const { requests, seconds, other, unreadable, recorded } = summary;
  const rate = seconds ? Math.round(requests / seconds) : requests;
  return (
    <>
      <p class="outcome" role="status">
        {count(requests)} lines in {seconds.toFixed(1)} s ({count(rate)} per second), of which{' '}
        {count(other)} are not LLM calls and {count(unreadable)} are unreadable.
      </p>
      {recorded > 0 && (
        <p class="note">
          {count(recorded)} lines are decisions that the console exported. They have no text of a
          request, so they are counted as they were decided, and not scored with these rules.
        </p>
      )}
      <div class="outcomes">
        <Bands summary={summary} />
        {summary.labels.length > 0 && <Labels summary={summary} />}
        <Signatures summary={summary} />
        {summary.problems.length > 0 && <Unreadable summary={summary} />}
      </div>
    </>
  );
}

function Bands({ summary }: { summary: Summary }) {
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
      <Table
        label="Table by label"
        frame="tall"
        columns={[
          'Label',
          ...BANDS.map((band) => ({ title: band, number: true })),
          { title: 'not an LLM call', number: true },
        ]}
      >
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

function Signatures({ summary: { signatures, requests } }: { summary: Summary }) {
  return (
    <section aria-label="Signatures by hits">
      <h3>Signatures by hits</h3>
      {signatures.length === 0 ? (
        <p class="note">No signature holds for any of the requests.</p>
      ) : (
        <Table
          label="Table of signatures by hits"
          frame="tall"
          columns={[
            'Signature',
            { title: 'Hits', number: true },
            { title: 'Of all requests', number: true },
          ]}
        >
          {signatures.map(({ name, hits }) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="number">{count(hits)}</td>
              <td class="number">{share(hits, requests)}</td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}

function Unreadable({ summary: { problems, unreadable } }: { summary: Summary }) {
  return (
    <section aria-label="Unreadable lines">
      <h3>Unreadable lines</h3>
      <ul class="problems">
        {problems.map(({ line, problem }) => (
          <li key={line}>
            Line {count(line)}: {problem}
          </li>
        ))}
      </ul>
      {unreadable > problems.length && (
        <p class="note">and {count(unreadable - problems.length)} more</p>
      )}
    </section>
  );
}
