// The rule files, and the drafts, which are the changed files. Drafts are lost when the page is
// closed.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { ApiError, type Loaded } from '../api.ts';
import { shippedSources } from '../core/core.ts';

/** Texts by path below `rules/`. */
export type Files = Readonly<Record<string, string>>;

let drafts: Files = {};
const listeners = new Set<() => void>();

function setDrafts(next: Files) {
  drafts = next;
  for (const listener of listeners) listener();
}

// The browser asks for confirmation before it closes a page with drafts.
addEventListener('beforeunload', (event) => {
  if (Object.keys(drafts).length) event.preventDefault();
});

/**
 * Saves the new text of a file as a draft. If the text equals the shipped text, removes the draft.
 */
export function saveDraft(path: string, text: string, shipped: Files) {
  const { [path]: _, ...others } = drafts;
  setDrafts(text === shipped[path] ? others : { ...others, [path]: text });
}

/** Discards the draft of a file, or all drafts. */
export function discard(path?: string) {
  if (path === undefined) return setDrafts({});
  const { [path]: _, ...others } = drafts;
  setDrafts(others);
}

/** Returns the current text of a file. It may be newer than the last rendering. */
export const currentText = (path: string, shipped = '') => drafts[path] ?? shipped;

/** Returns the changed files, and renders again when they change. */
export function useDrafts(): Files {
  const [current, setCurrent] = useState(drafts);
  useEffect(() => {
    const update = () => setCurrent(drafts);
    listeners.add(update);
    update();
    return () => void listeners.delete(update);
  }, []);
  return current;
}

/** Loads the files that this console was built with. */
export function useShipped(): Loaded<Files> {
  const [loaded, setLoaded] = useState<Loaded<Files>>({ state: 'loading' });
  useEffect(() => {
    shippedSources().then(
      (data) => setLoaded({ state: 'ready', data }),
      (error) => setLoaded({ state: 'failed', error }),
    );
  }, []);
  return loaded;
}

/** Returns all files with their drafts. The object changes only when a file changes. */
export const useFiles = (shipped: Files, changed: Files): Files =>
  useMemo(() => ({ ...shipped, ...changed }), [shipped, changed]);

/** Returns the error for a part of the console that could not be loaded on demand. */
export const loadError = (part: string) =>
  new ApiError(
    0,
    'import',
    `${part} could not be loaded: the console was updated, or you are offline`,
    'download the files that you changed, and reload the page',
  );

/** Finds a file by its path, or by the name of its rule. Names of rules start with the family. */
export function pathOf(files: Files, rule: string | null): string | null {
  if (!rule) return null;
  const paths = [rule, ...pathsOfName(rule)];
  return paths.find((path) => Object.hasOwn(files, path)) ?? null;
}

/** Returns the possible paths of a rule. Families may contain underscores. */
function pathsOfName(name: string): string[] {
  const words = name.split('_');
  if (words[0] === 'list') return [`lists/${words.slice(1).join('_')}.toml`];
  return words
    .slice(1)
    .map((_, index) => index + 1)
    .map((at) => `${words.slice(0, at).join('_')}/${words.slice(at).join('_')}.yml`);
}
