// The newest decisions. What one reads stays where it is: new ones wait until they are asked for, unless they are followed.
import { useEffect, useState } from 'preact/hooks';
import { type Decision, type Decisions, useApi } from '../api.ts';
import { LiveState, useChanges } from '../components/live.tsx';
import { ActionTag, BandTag, Hash, Panel, Time } from '../components/parts.tsx';
import { Empty, Shown } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { brief, count, score } from '../format.ts';
import { link } from '../router.ts';
import { download } from '../rules/store.ts';

interface Props {
  filters: Record<string, string>;
  open: string | null;
  /** Told what is listed, so that one of them can be opened without asking again. */
  onList(decisions: readonly Decision[]): void;
}

const LIMIT = 100;
/** What the API tells at most. */
const MOST = 500;

export function List({ filters, open, onList }: Props) {
  const { changes, seconds, live } = useChanges();
  const [limit, setLimit] = useState(LIMIT);
  const loaded = useApi<Decisions>(`/decisions?${new URLSearchParams({ limit: String(limit), ...filters })}`, seconds, changes);
  const latest = loaded.state === 'loading' ? undefined : loaded.data;
  const [held, hold] = useState<Decisions>();
  const [follow, setFollow] = useState(false);
  useEffect(() => {
    // Older ones that were asked for come at once, too.
    const isMore = held?.decisions.length === LIMIT && (latest?.decisions.length ?? 0) > LIMIT;
    if (latest && (follow || isMore || !held?.decisions.length)) hold(latest);
  }, [latest, follow]);
  useEffect(() => onList(held?.decisions ?? []), [held]);
  const known = new Set(held?.decisions.map(({ request_id }) => request_id));
  const fresh = held ? (latest?.decisions.filter(({ request_id }) => !known.has(request_id)).length ?? 0) : 0;
  const end = (
    <>
      <LiveState live={live} />
      <label class="follow">
        <input type="checkbox" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} /> Follow
      </label>
    </>
  );
  return (
    <Panel title="Newest first" note={latest && `kept ${count(latest.stored)} of at most ${count(latest.capacity)}`} end={end} class="decision-list">
      <div class="fresh">
        <span class="visually-hidden" role="status">
          {fresh > 0 && 'There are new decisions'}
        </span>
        {/* Disabled it would lose the focus. */}
        <button type="button" aria-disabled={fresh === 0} onClick={() => fresh && hold(latest)}>
          {fresh === 0 ? 'No new decisions' : `${fresh}${fresh >= limit ? ' or more' : ''} new ${fresh === 1 ? 'decision' : 'decisions'}`}
        </button>
      </div>
      <Shown loaded={loaded.state === 'loading' && held ? { state: 'ready', data: held } : loaded} lines={12}>
        {() => held && (held.decisions.length ? <DecisionTable decisions={held.decisions} filters={filters} open={open} /> : <None filters={filters} />)}
      </Shown>
      {held && held.decisions.length > 0 && <More decisions={held.decisions} limit={limit} onMore={() => setLimit(MOST)} />}
    </Panel>
  );
}

function More({ decisions, limit, onMore }: { decisions: readonly Decision[]; limit: number; onMore(): void }) {
  const more = () => {
    onMore();
    // The button goes; what comes next stands behind the last row.
    document.getElementById(rowId(decisions.at(-1)!.request_id))?.focus();
  };
  return (
    <div class="row more">
      {decisions.length >= LIMIT && limit < MOST && (
        <button type="button" onClick={more}>
          Show more
        </button>
      )}
      <button type="button" class="quiet" onClick={() => download('decisions.ndjson', decisions.map((decision) => `${JSON.stringify(decision)}\n`).join(''))}>
        Download these {count(decisions.length)} as NDJSON
      </button>
      {decisions.length >= MOST && <span class="note">No more than {MOST} at once: narrow the time to see older ones.</span>}
    </div>
  );
}

function None({ filters }: { filters: Record<string, string> }) {
  if (Object.keys(filters).length) {
    return (
      <Empty>
        <p>No decision that is kept fits these filters.</p>
        <p>{filters.id ? 'Only some of the clear decisions are kept, and old ones give way to new ones: the Worker’s log has every request id.' : 'Clear some of them to see more.'}</p>
      </Empty>
    );
  }
  return (
    <Empty>
      <p>No decision is kept yet.</p>
      <p>
        Send a request through Hedgerow, or run <code>npm run demo</code> beside <code>npm start</code>; decisions come here a few seconds later.
      </p>
    </Empty>
  );
}

function DecisionTable({ decisions, filters, open }: { decisions: readonly Decision[]; filters: Record<string, string>; open: string | null }) {
  return (
    <Table
      label="Decisions"
      class="decisions tight"
      columns={['Time', 'Band', { title: 'Score', number: true }, 'Action', 'Top hits', 'Account', 'Model', 'Colo', 'Dialect', 'Request id']}
    >
      {decisions.map((decision) => (
        <Row key={decision.request_id} decision={decision} href={link('decisions', { ...filters, open: decision.request_id })} open={open === decision.request_id} />
      ))}
    </Table>
  );
}

/** The id of a row's link, to which the focus goes back. */
export const rowId = (request: string) => `decision-${request}`;

function Row({ decision, href, open }: { decision: Decision; href: string; open: boolean }) {
  const { request_id, at, band, score: own, action, mode, hits, account, model, colo, dialect, error } = decision;
  const top = hits.toSorted((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, 2);
  return (
    <tr class={`pick ${open ? 'is-open' : ''}`} onClick={(event) => (event.target as Element).closest('a') || (location.hash = href)}>
      <td class="nowrap">
        <a id={rowId(request_id)} href={href} aria-current={open ? 'true' : undefined}>
          <Time at={at} />
        </a>
      </td>
      <td>
        <BandTag band={band} />
      </td>
      <td class="number">{own === null ? '–' : score(own)}</td>
      <td class="nowrap">
        <ActionTag action={action} />
        {mode === 'shadow' && action !== 'allow' && <span class="note"> in shadow</span>}
      </td>
      <td class="top-hits clipped" title={error ?? hits.map(({ name }) => name).join(', ')}>
        {error ?? top.map(({ name }) => name).join(', ')}
        {hits.length > top.length && ` and ${hits.length - top.length} more`}
      </td>
      <td>
        <Hash value={account} />
      </td>
      <td class="model clipped" title={model ?? undefined}>{model ?? '–'}</td>
      <td>{colo}</td>
      <td>{dialect || '–'}</td>
      <td>
        <code title={request_id}>{brief(request_id)}</code>
      </td>
    </tr>
  );
}
