// The rule files: as the console was built with them, and what was changed since. Changes live as long as the page.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { ApiError, type Loaded } from '../api.ts';
import { shippedSources } from '../core/core.ts';

/** Texts by path below `rules/`. */
export type Files = Readonly<Record<string, string>>;

let drafts: Files = {};
const listeners = new Set<() => void>();

function set(next: Files) {
  drafts = next;
  for (const listener of listeners) listener();
}

// Changes end with the page, so whoever closes it is asked first.
addEventListener('beforeunload', (event) => {
  if (Object.keys(drafts).length) event.preventDefault();
});

/** Keeps a file's new text; what is as it was shipped is no change. */
export function keep(path: string, text: string, shipped: Files) {
  const { [path]: _, ...others } = drafts;
  set(text === shipped[path] ? others : { ...others, [path]: text });
}

/** Forgets the changes of a file, or all. */
export function discard(path?: string) {
  if (path === undefined) return set({});
  const { [path]: _, ...others } = drafts;
  set(others);
}

/** A file's text at this moment, which may be newer than what is on the page. */
export const textNow = (path: string, shipped = '') => drafts[path] ?? shipped;

/** The changed files. */
export function useDrafts(): Files {
  const [current, update] = useState(drafts);
  useEffect(() => {
    const listener = () => update(drafts);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return current;
}

export function useShipped(): Loaded<Files> {
  const [loaded, update] = useState<Loaded<Files>>({ state: 'loading' });
  useEffect(() => {
    shippedSources().then(
      (data) => update({ state: 'ready', data }),
      (error) => update({ state: 'failed', error }),
    );
  }, []);
  return loaded;
}

/** All files, with the changes. The object is another only when one of them is. */
export const useFiles = (shipped: Files, changed: Files): Files => useMemo(() => ({ ...shipped, ...changed }), [shipped, changed]);

/** Writes a file to where the browser saves what is downloaded. */
export function download(name: string, content: BlobPart) {
  const url = URL.createObjectURL(new Blob([content]));
  const anchor = document.createElement('a');
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A part of the page that is loaded when it is needed, and could not be. */
export const notLoaded = (what: string) => new ApiError(0, 'import', `${what} could not be loaded: the console was updated, or you are offline`, 'download the files that you changed, and reload the page');

/** The path of a rule: by its path, or by its name, which begins with its family. */
export function pathOf(files: Files, rule: string | null): string | null {
  if (!rule) return null;
  const [family, ...rest] = rule.split('_');
  const own = family === 'list' ? `lists/${rest.join('_')}.toml` : `${family}/${rest.join('_')}.yml`;
  return [rule, own].find((path) => Object.hasOwn(files, path)) ?? null;
}
