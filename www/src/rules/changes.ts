// What changes from one bundle to another, and what of it undoes what was released since this console was built.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { type BundleDiff, core } from '../core/core.ts';
import { decibans } from '../format.ts';

export interface Change {
  kind: string;
  name: string;
  detail: string;
}

export interface Changes {
  rows: Change[];
  /** Whether correlations are others, or count other requests. */
  counts: boolean;
}

/** Null while they are compared. */
export type Compared = Changes | ApiError | null;

const changed = (kind: string, detail = '') => (name: string): Change => ({ kind, name, detail });

export function useChanges(from: string | null, to: string | null): Compared {
  const [state, set] = useState<{ from: string; to: string; compared: Compared } | null>(null);
  useEffect(() => {
    if (from === null || to === null) return;
    let outdated = false;
    core()
      .diff(from, to)
      .then((diff) => changesOf(diff, from, to))
      .catch((error) => new ApiError(0, 'diff', `the bundles cannot be compared: ${error.message}`, 'reload the page'))
      .then((compared) => outdated || set({ from, to, compared }));
    return () => {
      outdated = true;
    };
  }, [from, to]);
  // An answer about other bundles is none.
  return state && state.from === from && state.to === to ? state.compared : null;
}

function changesOf(diff: BundleDiff, from: string, to: string): Changes {
  const [before, after] = [correlationsOf(from), correlationsOf(to)];
  const rows = [
    ...diff.added.map(changed('added')),
    ...diff.removed.map(changed('removed')),
    ...diff.weights.map(({ name, from, to }) => changed('weight', `${decibans(from)} → ${decibans(to)}`)(name)),
    ...diff.changed.map(changed('changed')),
    ...diff.lists.map(({ name, added, removed }) => changed('list', `${added} added, ${removed} removed`)(name)),
    ...diff.policy.map(({ path, from, to }) => changed('policy', `${shown(from)} → ${shown(to)}`)(path)),
  ];
  const names = new Set(rows.map(({ name }) => name));
  const counts = [...before.values(), ...after.values()].some(({ name, rules }) => names.has(name) || rules.some((rule) => names.has(rule)));
  return { rows, counts: counts || rows.some(({ kind, name }) => kind === 'policy' && /^(correlate|cluster)\b/.test(name)) };
}

const shown = (value: unknown) => (value === null || value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value));

interface Correlation {
  name: string;
  weight: number;
  rules: string[];
}

const correlationsOf = (bundle: string) => new Map(((JSON.parse(bundle).correlations ?? []) as Correlation[]).map((own) => [own.name, own]));

/**
 * What these rules would undo of what was released since the console was built, in words; empty where there is nothing.
 * `drift` is from the shipped rules to the released ones, `ahead` from those to the edited. While there is no comparison
 * with the edited ones the last one holds, so that nothing jumps.
 */
export function useUndone(drift: Compared, ahead: Compared): string {
  const last = useRef<{ drift: Compared; undone: string }>({ drift: null, undone: '' });
  return useMemo(() => {
    if (!drift || drift instanceof ApiError) return '';
    const isKnown = ahead && !(ahead instanceof ApiError);
    if (!isKnown && last.current.drift === drift) return last.current.undone;
    const names = isKnown && new Set(ahead.rows.map(({ name }) => name));
    const rows = drift.rows.filter(({ name }) => !names || names.has(name));
    const removed = new Set(rows.filter(({ kind }) => kind === 'added').map(({ name }) => name));
    const back = new Set(rows.filter(({ kind }) => kind !== 'added').map(({ name }) => name));
    const undone = [some('remove', removed), some('change back', back)].filter(Boolean).join(' and ');
    if (isKnown) last.current = { drift, undone };
    return undone;
  }, [drift, ahead]);
}

const NAMED = 3;

/** `remove 5 (a, b, c and 2 more)` */
function some(what: string, names: ReadonlySet<string>): string {
  const more = names.size - NAMED;
  return names.size ? `${what} ${names.size} (${[...names].slice(0, NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''})` : '';
}
