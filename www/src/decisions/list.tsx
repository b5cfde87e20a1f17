// The list of the newest decisions, sorted by any column. The list does not move while the user
// reads: new decisions appear only after a click, unless “Follow” is checked.
import { useEffect, useMemo, useState } from 'preact/hooks';
import {
  type Action,
  ACTIONS,
  BANDS,
  type DecisionList,
  type DecisionRecord,
  useApi,
} from '../api.ts';
import { Async, Empty } from '../components/async-states.tsx';
import { LiveStatus, useLiveUpdates } from '../components/live-updates.tsx';
import { type Sorting, useSort } from '../components/sort.ts';
import { Table } from '../components/table.tsx';
import { ActionTag, BandTag, Hash, Name, Panel, Time } from '../components/ui.tsx';
import { download } from '../download.ts';
import { count, score as formatScore } from '../format.ts';
import { link } from '../router.ts';
import { findRequestId } from './appeal.ts';
import { isEnforced } from './explanation.ts';
import { withoutRange } from './filters.tsx';
import { type FilterValues, type Known, mismatches } from './known.ts';
import { type Older, union, useOlder } from './older.ts';

interface Props {
  filters: FilterValues;
  known: Known;
  /** Request id of the open decision. */
  openId: string | null;
  /**
   * Called with the listed decisions in their order, so that they can be opened without another
   * request.
   */
  onList(decisions: readonly DecisionRecord[]): void;
}

const PAGE = 100;
/** The API returns at most this number of decisions, and the list has at most this number. */
const MAX_DECISIONS = 500;

export function List({ filters, known, openId, onList }: Props) {
  const { changes, seconds, live } = useLiveUpdates();
  const [limit, setLimit] = useState(PAGE);
  const query = new URLSearchParams({ limit: String(limit), ...filters });
  const loaded = useApi<DecisionList>(`/decisions?${query}`, seconds, changes);
  const latest = loaded.state === 'loading' ? undefined : loaded.data;
  const [shown, setShown] = useState<DecisionList>();
  const [follow, setFollow] = useState(false);
  useEffect(() => {
    // After “Show more”, shows the older decisions at once.
    const isMore = shown?.decisions.length === PAGE && (latest?.decisions.length ?? 0) > PAGE;
    if (latest && (follow || isMore || !shown?.decisions.length)) setShown(latest);
  }, [latest, follow]);
  const older = useOlder(query, shown, MAX_DECISIONS);
  const all = useMemo(
    () => union(shown?.decisions ?? [], older.decisions),
    [shown, older.decisions],
  );
  const { sorted, sorting } = useSort(all, SORT_VALUES, 'at');
  useEffect(() => void (shown && onList(sorted)), [sorted]);
  const controls = (
    <>
      <LiveStatus live={live} />
      <label class="follow">
        <input
          type="checkbox"
          checked={follow}
          onChange={(event) => setFollow(event.currentTarget.checked)}
        />{' '}
        Follow
      </label>
    </>
  );
  const length = Math.max(all.length, latest?.decisions.length ?? 0);
  const isPart = length >= limit || older.hasMore;
  const note = latest && sampleNote(latest, filters, `${count(length)}${isPart ? '+' : ''}`);
  // After “Show more”, keeps the current list until the longer list is loaded.
  const current =
    loaded.state === 'loading' && shown ? ({ state: 'ready', data: shown } as const) : loaded;
  return (
    <Panel title="List" note={note} end={controls} class="decision-list">
      <NewDecisions
        count={newDecisions(shown, latest)}
        limit={limit}
        onShow={() => setShown(latest)}
      />
      <Async loaded={current} lines={12}>
        {() =>
          shown &&
          (sorted.length ? (
            <DecisionTable
              decisions={sorted}
              sorting={sorting}
              filters={filters}
              openId={openId}
            />
          ) : (
            !older.hasMore && <NoDecisions filters={filters} known={known} />
          ))
        }
      </Async>
      {shown && older.hasMore && all.length < MAX_DECISIONS && <SearchOlder older={older} />}
      {shown && sorted.length > 0 && (
        <More
          decisions={sorted}
          hasMore={!shown.next && shown.decisions.length >= PAGE && limit < MAX_DECISIONS}
          onMore={() => setLimit(MAX_DECISIONS)}
        />
      )}
    </Panel>
  );
}

/** Values to sort by. The order of bands and actions is their severity. */
const SORT_VALUES = {
  at: ({ at }: DecisionRecord) => at,
  band: ({ band }: DecisionRecord) => band && BANDS.indexOf(band),
  score: ({ score }: DecisionRecord) => score,
  action: ({ action }: DecisionRecord) => ACTIONS.indexOf(action),
  account: ({ account_label, account }: DecisionRecord) => account_label ?? account,
  model: ({ model }: DecisionRecord) => model,
  colo: ({ colo }: DecisionRecord) => colo,
};

/**
 * Describes how many decisions are listed, kept and counted. The API counts without the filters,
 * except the time range, so the counts do not look like those of an account or model.
 */
function sampleNote(list: DecisionList, filters: FilterValues, listed: string): string {
  const { since, until, enforced, ...others } = filters;
  const kind = enforced ? 'enforced decisions' : 'sample';
  const kept = `${kind}: ${count(list.kept)} kept of ${count(list.counted)} counted`;
  const isFiltered = Object.keys(others).length > 0;
  return isFiltered ? `${listed} match; ${kept}, whatever the filters` : kept;
}

/** Returns the number of decisions in `latest` that are not shown. */
function newDecisions(shown: DecisionList | undefined, latest: DecisionList | undefined): number {
  if (!shown || !latest) return 0;
  const known = new Set(shown.decisions.map(({ request_id }) => request_id));
  return latest.decisions.filter(({ request_id }) => !known.has(request_id)).length;
}

interface NewDecisionsProps {
  count: number;
  limit: number;
  onShow(): void;
}

function NewDecisions({ count, limit, onShow }: NewDecisionsProps) {
  const number = `${count}${count >= limit ? ' or more' : ''}`;
  const label = `${number} new ${count === 1 ? 'decision' : 'decisions'}`;
  return (
    <div class="new-decisions">
      <span class="visually-hidden" role="status">
        {count > 0 && 'There are new decisions'}
      </span>
      {/* Not `disabled`, because a disabled button loses the focus. */}
      <button type="button" aria-disabled={count === 0} onClick={() => count > 0 && onShow()}>
        {count === 0 ? 'No new decisions' : label}
      </button>
    </div>
  );
}

/** Says that the list ends before the oldest decision, and continues the search. */
function SearchOlder({ older: { state, search } }: { older: Older }) {
  const isSearching = state === 'searching';
  return (
    <div class="row more">
      <span class="note" role="status">
        {isSearching
          ? 'Older decisions are searched …'
          : state === 'failed'
            ? 'The search for older decisions failed. Try again.'
            : state === 'searched'
              ? 'Still older decisions were not searched yet.'
              : 'Older decisions were not searched yet.'}
      </span>
      {/* Not `disabled`, because a disabled button loses the focus. */}
      <button type="button" aria-disabled={isSearching} onClick={search}>
        Search older decisions
      </button>
    </div>
  );
}

interface MoreProps {
  decisions: readonly DecisionRecord[];
  /** Whether a longer list can be loaded. */
  hasMore: boolean;
  onMore(): void;
}

function More({ decisions, hasMore, onMore }: MoreProps) {
  const more = () => {
    onMore();
    // Focuses the last row, because the button disappears and the older decisions follow this row.
    document.getElementById(rowId(decisions.at(-1)!.request_id))?.focus();
  };
  const save = () => {
    const lines = decisions.map((decision) => `${JSON.stringify(decision)}\n`);
    download('decisions.ndjson', lines.join(''));
  };
  return (
    <div class="row more">
      {hasMore && (
        <button type="button" onClick={more}>
          Show more
        </button>
      )}
      <button type="button" class="quiet" onClick={save}>
        Download these {count(decisions.length)} as NDJSON
      </button>
      {decisions.length >= MAX_DECISIONS && (
        <span class="note">
          At most {MAX_DECISIONS} decisions are shown: narrow the time range to see older ones.
        </span>
      )}
    </div>
  );
}

function NoDecisions({ filters, known }: { filters: FilterValues; known: Known }) {
  if (filters.id && findRequestId(filters.id).mistyped) {
    return (
      <Empty>
        <p>The appeal reference is mistyped: its check is wrong, or it has not 26 symbols.</p>
        <p>Compare it with the message that the customer received.</p>
      </Empty>
    );
  }
  if (Object.keys(filters).length) {
    const found = mismatches(filters, known);
    return (
      <Empty>
        <p>No stored decision matches these filters.</p>
        {found.map(({ name, problem, suggestions }) => (
          <p key={name}>
            {problem}
            {suggestions.length > 0 && ' Did you mean '}
            {suggestions.map((value, index) => (
              <span key={value}>
                {index > 0 && ', '}
                <a href={link('decisions', { ...withoutRange(filters), [name]: value })}>{value}</a>
              </span>
            ))}
            {suggestions.length > 0 && '?'}
          </p>
        ))}
        {found.length === 0 && (
          <p>
            Remove some filters to see more. Every enforced decision is stored for a time, but only
            a sample of the others. The Worker’s log has every request id.
          </p>
        )}
      </Empty>
    );
  }
  return (
    <Empty>
      <p>No decisions are stored yet.</p>
      <p>
        Send a request through Hedgerow, or run <code>npm run demo</code> next to{' '}
        <code>npm start</code>. Decisions appear a few seconds later.
      </p>
    </Empty>
  );
}

interface TableProps {
  decisions: readonly DecisionRecord[];
  sorting: Sorting;
  filters: FilterValues;
  openId: string | null;
}

function DecisionTable({ decisions, sorting, filters, openId }: TableProps) {
  const others = withoutRange(filters);
  return (
    <Table
      label="Decisions"
      class="decisions tight"
      sorting={sorting}
      columns={[
        { title: 'Time', by: 'at' },
        { title: 'Band', by: 'band' },
        { title: 'Score', number: true, by: 'score' },
        { title: 'Action', by: 'action' },
        'Top hits',
        { title: 'Account', by: 'account' },
        { title: 'Model', by: 'model' },
        { title: 'Colo', by: 'colo' },
        'Dialect',
        'Request id',
      ]}
    >
      {decisions.map((decision) => (
        <Row
          key={decision.request_id}
          decision={decision}
          href={link('decisions', { ...others, open: decision.request_id })}
          isOpen={openId === decision.request_id}
        />
      ))}
    </Table>
  );
}

/** Effects of the actions on a request. */
const EFFECTS: Readonly<Record<Action, string>> = {
  allow: '',
  tag: 'tagged',
  degrade: 'degraded',
  throttle: 'refused',
  block: 'refused',
};

/** Describes the effect of a decision on the request; an empty text if it had none. */
export function effectOf(decision: DecisionRecord): string {
  const { degraded, mode, action } = decision;
  if (isEnforced(decision)) return degraded === 'edited' ? 'degraded' : 'refused';
  return mode === 'shadow' && action !== 'allow' ? `would be ${EFFECTS[action]}` : '';
}

/** Returns the id of the link in a row. Closing the decision focuses this link. */
export const rowId = (requestId: string) => `decision-${requestId}`;

interface RowProps {
  decision: DecisionRecord;
  href: string;
  isOpen: boolean;
}

function Row({ decision, href, isOpen }: RowProps) {
  const { request_id, score, action, account, account_label, model } = decision;
  const effect = effectOf(decision);
  const open = (event: Event) => {
    if (!(event.target as Element).closest('a')) location.hash = href;
  };
  return (
    <tr class={`pick ${isOpen ? 'is-open' : ''}`} onClick={open}>
      <td class="nowrap">
        <a id={rowId(request_id)} href={href} aria-current={isOpen ? 'true' : undefined}>
          <Time at={decision.at} precision="millisecond" />
        </a>
      </td>
      <td>
        <BandTag band={decision.band} />
      </td>
      <td class="number">{score === null ? '–' : formatScore(score)}</td>
      <td class="nowrap">
        <ActionTag action={action} />
        {effect && <span class="note"> {effect}</span>}
      </td>
      <TopHits decision={decision} />
      <td>
        <Hash value={account} />
        {account_label && <div class="note clipped">{account_label}</div>}
      </td>
      <td class="model clipped" title={model ?? undefined}>
        {model ?? '–'}
      </td>
      <td>{decision.colo}</td>
      <td>{decision.dialect || '–'}</td>
      <td>
        {/* The first digits are the time, which the first column shows. */}
        <code title={request_id}>…{request_id.slice(-8)}</code>
      </td>
    </tr>
  );
}

const TOP_HITS = 2;

/** The heaviest hits, or the error. */
function TopHits({ decision: { hits, error } }: { decision: DecisionRecord }) {
  const names = (some: DecisionRecord['hits']) => some.map(({ name }) => name).join(', ');
  const sorted = hits.toSorted((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  return (
    <td class="top-hits clipped" title={error ?? names(hits)}>
      {error ?? <Name>{names(sorted.slice(0, TOP_HITS))}</Name>}
      {hits.length > TOP_HITS && ` and ${hits.length - TOP_HITS} more`}
    </td>
  );
}
