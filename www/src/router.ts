// The location in the page: `#/decisions?band=suspect` is the view `decisions` with its parameters.
// Browsers do not send fragments, so parameters never reach a server.
import { useEffect, useMemo, useState } from 'preact/hooks';

export interface Location {
  view: string;
  params: URLSearchParams;
}

type Params = Record<string, string | number | null | undefined>;

/** Parses a fragment; by default the fragment of the page's address. */
export function parseLocation(hash = location.hash): Location {
  const [view = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  return { view, params: new URLSearchParams(query) };
}

/** Parameters of the time range, which links carry to other views: see range.ts. */
export const RANGE_PARAMS = ['minutes', 'since', 'until', 'compare'];

/**
 * Parameter of the decisions: start and end of a step of the overview, such as `1000-2000`, in
 * milliseconds since the epoch. Other views keep the range from which the step was chosen.
 */
export const STEP = 'step';

/**
 * Returns the address of a view. Parameters without a value are left out. Without a time range in
 * `params`, the address has the time range of the current address.
 */
export function link(view: string, params: Params = {}): string {
  if (RANGE_PARAMS.some((name) => params[name])) return address(view, params);
  const { params: current } = parseLocation();
  const names = view === 'decisions' ? [...RANGE_PARAMS, STEP] : RANGE_PARAMS;
  const range = names.map((name) => [name, current.get(name)]);
  return address(view, { ...Object.fromEntries(range), ...params });
}

/** Returns the address of a view with exactly these parameters. */
function address(view: string, params: Params): string {
  const present = Object.entries(params).filter(
    ([, value]) => value !== null && value !== undefined && value !== '',
  );
  const pairs = present.map(([name, value]) => [name, String(value)]);
  const query = new URLSearchParams(pairs).toString();
  return `#/${view}${query ? `?${query}` : ''}`;
}

/** Returns the whole address of a link within the page, to copy. */
export const addressOf = (link: string) => location.origin + location.pathname + link;

/** Opens a view with exactly these parameters. */
export function navigate(view: string, params: Params = {}) {
  location.hash = address(view, params);
}

/** Returns the current location, and renders again when it changes. */
export function useLocation(): Location {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const update = () => setHash(location.hash);
    addEventListener('hashchange', update);
    // The address may have changed after the first rendering, before this effect.
    update();
    return () => removeEventListener('hashchange', update);
  }, []);
  return useMemo(() => parseLocation(hash), [hash]);
}
