// The differences between bundles, and the released changes that signing would revert.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { type BundleDiff, core } from '../core/core.ts';
import { decibans } from '../format.ts';

export interface Change {
  kind: 'added' | 'removed' | 'weight' | 'changed' | 'concept' | 'list' | 'policy';
  name: string;
  detail: string;
}

export interface Changes {
  rows: Change[];
  /** Whether correlations change, or the set of requests that they count. */
  affectsCorrelations: boolean;
}

/** Null while the bundles are compared. */
export type DiffResult = Changes | ApiError | null;

export function useBundleDiff(from: string | null, to: string | null): DiffResult {
  const [state, setState] = useState<{ from: string; to: string; result: DiffResult } | null>(null);
  useEffect(() => {
    if (from === null || to === null) return;
    let isOutdated = false;
    core()
      .diff(from, to)
      .then((diff) => changesOf(diff, from, to))
      .catch((error) => {
        const message = `the bundles could not be compared: ${error.message}`;
        return new ApiError(0, 'diff', message, 'reload the page');
      })
      .then((result) => isOutdated || setState({ from, to, result }));
    return () => {
      isOutdated = true;
    };
  }, [from, to]);
  // Ignores a result for other bundles.
  return state && state.from === from && state.to === to ? state.result : null;
}

function changesOf(diff: BundleDiff, from: string, to: string): Changes {
  const rows = [
    ...diff.added.map((name): Change => ({ kind: 'added', name, detail: '' })),
    ...diff.removed.map((name): Change => ({ kind: 'removed', name, detail: '' })),
    ...diff.weights.map(({ name, from, to }): Change => {
      return { kind: 'weight', name, detail: `${decibans(from)} → ${decibans(to)}` };
    }),
    ...diff.changed.map((name): Change => ({ kind: 'changed', name, detail: '' })),
    ...diff.concepts.map(({ name, added, removed }): Change => {
      return { kind: 'concept', name, detail: `${added} added, ${removed} removed` };
    }),
    ...diff.lists.map(({ name, added, removed }): Change => {
      return { kind: 'list', name, detail: `${added} added, ${removed} removed` };
    }),
    ...diff.policy.map(({ path, from, to }): Change => {
      return { kind: 'policy', name: path, detail: `${formatValue(from)} → ${formatValue(to)}` };
    }),
  ];
  const names = new Set(rows.map(({ name }) => name));
  const isAffected = ({ name, rules }: Correlation) =>
    names.has(name) || rules.some((rule) => names.has(rule));
  const isCorrelationPolicy = ({ kind, name }: Change) =>
    kind === 'policy' && /^(correlate|cluster)\b/.test(name);
  const correlations = [...correlationsOf(from), ...correlationsOf(to)];
  // Changed concepts also count, because correlations count signatures, and signatures can use
  // concepts.
  const affectsCorrelations =
    correlations.some(isAffected) ||
    rows.some((row) => row.kind === 'concept' || isCorrelationPolicy(row));
  return { rows, affectsCorrelations };
}

function formatValue(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

interface Correlation {
  name: string;
  weight: number;
  /** Names of the signatures and correlations that the correlation counts. */
  rules: string[];
}

const correlationsOf = (bundle: string): Correlation[] => JSON.parse(bundle).correlations ?? [];

/**
 * Describes the released changes that signing would revert. Returns an empty text if there are
 * none. `drift` is the diff from the shipped rules to the released rules, and `edits` is the diff
 * from the released rules to the edited rules. While `edits` is unknown, returns the last result,
 * so that the layout does not jump.
 */
export function useReverts(drift: DiffResult, edits: DiffResult): string {
  const last = useRef<{ drift: DiffResult; reverts: string }>({ drift: null, reverts: '' });
  return useMemo(() => {
    if (!drift || drift instanceof ApiError) return '';
    const knownEdits = edits instanceof ApiError ? null : edits;
    if (!knownEdits && last.current.drift === drift) return last.current.reverts;
    const edited = knownEdits && new Set(knownEdits.rows.map(({ name }) => name));
    const rows = drift.rows.filter(({ name }) => !edited || edited.has(name));
    const namesOf = (some: Change[]) => new Set(some.map(({ name }) => name));
    const removed = namesOf(rows.filter(({ kind }) => kind === 'added'));
    const reset = namesOf(rows.filter(({ kind }) => kind !== 'added'));
    const reverts = [describe('remove', removed), describe('change back', reset)]
      .filter(Boolean)
      .join(' and ');
    if (knownEdits) last.current = { drift, reverts };
    return reverts;
  }, [drift, edits]);
}

/** Maximum number of names that are listed. */
const MAX_NAMES = 3;

/** Formats a change, such as `remove 5 (a, b, c and 2 more)`. */
function describe(verb: string, names: ReadonlySet<string>): string {
  if (!names.size) return '';
  const more = names.size - MAX_NAMES;
  const listed = [...names].slice(0, MAX_NAMES).join(', ');
  return `${verb} ${names.size} (${listed}${more > 0 ? ` and ${more} more` : ''})`;
}
