// What the edited rules would change, against what is in force.
import { useEffect, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Empty, Loading, Problem } from '../components/states.tsx';
import { type BundleDiff, core } from '../core/core.ts';
import { decibans } from '../format.ts';
import type { Reference } from './reference.ts';

type State = { diff: BundleDiff } | { error: ApiError } | null;

function useDiff(from: string | null, to: string | null): State {
  const [state, set] = useState<State>(null);
  useEffect(() => {
    if (from === null || to === null) return set(null);
    let outdated = false;
    core()
      .diff(from, to)
      .then((diff): State => ({ diff }))
      .catch((error): State => ({ error: new ApiError(0, 'diff', `the bundles cannot be compared: ${error.message}`, 'reload the page') }))
      .then((state) => outdated || set(state));
    return () => {
      outdated = true;
    };
  }, [from, to]);
  return state;
}

export function Difference({ reference, bundle }: { reference: Reference; bundle: string | null }) {
  const state = useDiff(reference.bundle, bundle);
  return (
    <Panel title="Difference" note={`against ${reference.what}`}>
      {bundle === null ? <Empty>What changes is shown here when the check is done and there is nothing to mend.</Empty> : <Body state={state} />}
    </Panel>
  );
}

function Body({ state }: { state: State }) {
  if (!state) return <Loading lines={2} />;
  if ('error' in state) return <Problem error={state.error} />;
  const { added, removed, weights, changed, lists, policy } = state.diff;
  const rows: Row[] = [
    ...added.map((name): Row => ['added', name, '']),
    ...removed.map((name): Row => ['removed', name, '']),
    ...weights.map(({ name, from, to }): Row => ['weight', name, `${decibans(from)} → ${decibans(to)}`]),
    ...changed.map((name): Row => ['changed', name, '']),
    ...lists.map(({ name, added, removed }): Row => ['list', name, `${added} added, ${removed} removed`]),
    ...policy.map(({ path, from, to }): Row => ['policy', path, `${shown(from)} → ${shown(to)}`]),
  ];
  if (!rows.length) return <Empty>Both decide alike. Descriptions, comments and exemplars change no decision.</Empty>;
  return (
    <div class="scroll" role="region" aria-label="What changes" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Change</th>
            <th scope="col">What</th>
            <th scope="col">From → to</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([kind, name, detail]) => (
            <tr key={`${kind} ${name}`}>
              <td>{kind}</td>
              <th scope="row">{name}</th>
              <td>{detail}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

type Row = [kind: string, name: string, detail: string];

const shown = (value: unknown) => (value === null || value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value));
