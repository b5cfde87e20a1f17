// The location in the page: `#/decisions?band=suspect` is the view `decisions` with its parameters.
// Browsers do not send fragments, so parameters never reach a server.
import { useEffect, useState } from 'preact/hooks';

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

/** Returns the address of a view. Parameters without a value are left out. */
export function link(view: string, params: Params = {}): string {
  const present = Object.entries(params).filter(
    ([, value]) => value !== null && value !== undefined && value !== '',
  );
  const pairs = present.map(([name, value]) => [name, String(value)]);
  const query = new URLSearchParams(pairs).toString();
  return `#/${view}${query ? `?${query}` : ''}`;
}

/** Returns the whole address of a link within the page, to copy. */
export const addressOf = (link: string) => location.origin + location.pathname + link;

/** Opens a view. */
export function navigate(view: string, params: Params = {}) {
  location.hash = link(view, params);
}

/** Returns the current location, and renders again when it changes. */
export function useLocation(): Location {
  const [current, setCurrent] = useState(() => parseLocation());
  useEffect(() => {
    const update = () => setCurrent(parseLocation());
    addEventListener('hashchange', update);
    return () => removeEventListener('hashchange', update);
  }, []);
  return current;
}
