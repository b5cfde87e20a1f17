// Where the page is: `#/decisions?band=suspect` is the view `decisions` with its parameters. Fragments never
// leave the browser, so nothing that stands there is sent anywhere.
import { useEffect, useState } from 'preact/hooks';

export interface Place {
  view: string;
  params: URLSearchParams;
}

export function place(hash = location.hash): Place {
  const [view = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  return { view, params: new URLSearchParams(query) };
}

/** The address of a view. Parameters without a value are left out. */
export function link(view: string, params: Record<string, string | number | null | undefined> = {}): string {
  const own = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== '');
  const query = new URLSearchParams(own.map(([name, value]) => [name, String(value)])).toString();
  return `#/${view}${query ? `?${query}` : ''}`;
}

export function go(view: string, params: Record<string, string | number | null | undefined> = {}) {
  location.hash = link(view, params);
}

export function usePlace(): Place {
  const [current, set] = useState(() => place());
  useEffect(() => {
    const changed = () => set(place());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return current;
}
