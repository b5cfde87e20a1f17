// Older decisions than those of the list. The API reads a bounded part of the enforced decisions
// for each page. So a page can be empty although older decisions match; `next` then says where to
// continue.
import { useRef, useState } from 'preact/hooks';
import { call, type DecisionList, type DecisionRecord } from '../api.ts';

/** Maximum number of pages that are read for one click. */
export const MAX_PAGES = 8;

/** A page of decisions. */
type Page = Pick<DecisionList, 'decisions' | 'next'>;

/**
 * Reads the pages that follow the position `before`, until one of them has decisions, at most
 * `MAX_PAGES`. Returns this page, or the last one that was read.
 */
export async function readOlder(
  read: (before: string) => Promise<Page>,
  before: string,
): Promise<Page> {
  let page: Page = { decisions: [], next: before };
  for (let count = 0; count < MAX_PAGES && page.next && !page.decisions.length; count++) {
    page = await read(page.next);
  }
  return page;
}

/** Returns the decisions of both lists, each once. */
export function union(
  newer: readonly DecisionRecord[],
  older: readonly DecisionRecord[],
): readonly DecisionRecord[] {
  const known = new Set(newer.map(({ request_id }) => request_id));
  return [...newer, ...older.filter(({ request_id }) => !known.has(request_id))];
}

/**
 * Returns whether decisions may be missing between a new first page and those that were found
 * before: the page ends before it reaches them.
 */
export function hasGap(shown: Page, found: Page): boolean {
  if (shown.next === undefined || !shown.decisions.length) return false;
  const known = new Set(found.decisions.map(({ request_id }) => request_id));
  return !shown.decisions.some(({ request_id }) => known.has(request_id));
}

/** The same list for each rendering, so that nothing changes. */
const NONE: readonly DecisionRecord[] = [];

/** Decisions that were listed when the user continued the search, and those that it found. */
export interface Older {
  decisions: readonly DecisionRecord[];
  /** Whether decisions may be left that are still older. */
  hasMore: boolean;
  state: 'idle' | 'searching' | 'searched' | 'failed';
  /** Continues the search. */
  search(): void;
}

/**
 * Returns the older decisions of a query, of which `shown` is the first page. Together, the listed
 * decisions are at most `max`.
 */
export function useOlder(
  query: URLSearchParams,
  shown: DecisionList | undefined,
  max: number,
): Older {
  const [lastFound, setFound] = useState<Page>();
  // After a gap, the search begins again at the first page.
  const found = lastFound && shown && hasGap(shown, lastFound) ? undefined : lastFound;
  const [state, setState] = useState<Older['state']>('idle');
  const isSearching = useRef(false);
  const next = found ? found.next : shown?.next;
  const search = async () => {
    // Keeps the listed decisions: those that newer ones displace later would be missing.
    const listed = union(shown?.decisions ?? NONE, found?.decisions ?? NONE);
    const limit = Math.min(Number(query.get('limit')), max - listed.length);
    if (!next || limit < 1 || isSearching.current) return;
    isSearching.current = true;
    setState('searching');
    try {
      const read = (before: string) => {
        const page = new URLSearchParams(query);
        page.set('limit', String(limit));
        page.set('before', before);
        return call<DecisionList>(`/decisions?${page}`);
      };
      const page = await readOlder(read, next);
      setFound({ ...page, decisions: [...union(listed, page.decisions)] });
      setState('searched');
    } catch {
      setState('failed');
    }
    isSearching.current = false;
  };
  return {
    decisions: found?.decisions ?? NONE,
    hasMore: next !== undefined,
    state,
    search: () => void search(),
  };
}
