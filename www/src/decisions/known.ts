// The values that filters can have, to complete what the user types and to explain why a filter
// matches nothing.
import { useMemo } from 'preact/hooks';
import {
  ACTIONS,
  BANDS,
  type ClusterList,
  type DecisionList,
  type DeploymentStatus,
  latest,
  useApi,
} from '../api.ts';

export type FilterValues = Readonly<Record<string, string>>;

/** Values by the name of their filter. */
export type Known = Readonly<Record<string, readonly string[]>>;

const BAND_FILTERS = [...BANDS, 'unscored'];
/** The filters that have only these values. */
export const CHOICES = { band: BAND_FILTERS, action: ACTIONS } as const;

/** Minutes of a week, for which decisions are kept. */
const WEEK = 10_080;

/**
 * Loads the values of recent traffic when they are `wanted`. Those of enforced decisions that are
 * older than a week may be missing.
 */
export function useKnown(wanted: boolean): Known {
  const status = latest(useApi<DeploymentStatus>(wanted ? `/status?minutes=${WEEK}` : null));
  const clusters = latest(useApi<ClusterList>(wanted ? '/clusters' : null))?.clusters;
  const recent = latest(useApi<DecisionList>(wanted ? '/decisions?limit=200' : null))?.decisions;
  return useMemo(() => {
    const { signatures = [], by_colo = {} } = status?.traffic ?? {};
    const unique = (...values: (string | null)[]) => [...new Set(values.filter((v) => v !== null))];
    const models = clusters?.flatMap(({ traffic }) => Object.keys(traffic?.by_model ?? {})) ?? [];
    return {
      signature: unique(
        ...signatures.map(({ name }) => name),
        ...(recent?.flatMap(({ hits, shadow_hits }) => [
          ...hits.map(({ name }) => name),
          ...shadow_hits,
        ]) ?? []),
      ),
      account: unique(...(recent?.map(({ account }) => account) ?? [])),
      cluster: unique(...(clusters?.flatMap(({ id, aliases }) => [id, ...aliases]) ?? [])),
      model: unique(
        ...(recent?.map(({ model }) => model) ?? []),
        ...models.filter((model) => model !== 'other'),
      ),
      colo: unique(...(recent?.map(({ colo }) => colo) ?? []), ...Object.keys(by_colo)),
    };
  }, [status, clusters, recent]);
}

/**
 * Converts a text that the user typed to the value of a filter: a known value or a pattern stays,
 * and any other text becomes a pattern for values that contain it.
 */
export function toPattern(text: string, known: readonly string[] = []): string {
  const isWhole = known.includes(text) || /[*,]/.test(text) || /^[0-9a-f]{8}$/.test(text);
  return !text || isWhole ? text : `*${text}*`;
}

/**
 * Returns whether a value matches a pattern, in which `*` matches any part. Not a regular
 * expression: one with many `.*` can take for ever, and strangers choose patterns and values.
 */
function matches(pattern: string, value: string): boolean {
  const text = value.toLowerCase();
  const [start = '', ...rest] = pattern.toLowerCase().split('*');
  const end = rest.pop();
  if (end === undefined) return text === start;
  let at = start.length;
  if (!text.startsWith(start)) return false;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length - at >= end.length && text.endsWith(end);
}

/** Returns the number of letters to insert, remove or replace to make `one` into `two`. */
function distance(one: string, two: string): number {
  let row = Array.from({ length: two.length + 1 }, (_, at) => at);
  for (const [index, letter] of [...one].entries()) {
    const next = [index + 1];
    for (let at = 0; at < two.length; at += 1) {
      const replaced = row[at]! + (letter === two[at] ? 0 : 1);
      next.push(Math.min(replaced, next[at]! + 1, row[at + 1]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}

const MAX_SUGGESTIONS = 5;

/** Returns the values that contain a text or resemble it, the most similar first. */
export function similar(text: string, values: readonly string[]): string[] {
  const wanted = text.replaceAll('*', '').toLowerCase().slice(0, 64);
  const rank = (value: string) => {
    const other = value.toLowerCase().slice(0, 64);
    return wanted && other.includes(wanted) ? 0 : distance(wanted, other);
  };
  return values
    .map((value) => ({ value, rank: rank(value) }))
    .filter(({ rank }) => rank <= Math.max(1, wanted.length / 4))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, MAX_SUGGESTIONS)
    .map(({ value }) => value);
}

/** A filter that cannot match, with values that the user may have meant. */
export interface Mismatch {
  name: string;
  problem: string;
  suggestions: string[];
}

const NOUNS: Readonly<Record<string, string>> = {
  signature: 'signature, list or correlation',
  cluster: 'cluster',
  model: 'model',
  colo: 'data centre',
};

/** Explains which filters match nothing, as far as the known values show it. */
export function mismatches(filters: FilterValues, known: Known): Mismatch[] {
  return Object.entries(filters).flatMap(([name, value]): Mismatch[] => {
    const found = (problem: string, suggestions: string[] = []) => [{ name, problem, suggestions }];
    if (name === 'until' && Number(value) <= Number(filters.since)) {
      return found('The time range is empty: its end is not after its start.');
    }
    if (name === 'account' && !/^[0-9a-f]{1,32}$/.test(value)) {
      return found(`“${value}” is not an account id: expected digits, 0–9 and a–f.`);
    }
    const choices = name === 'band' || name === 'action' ? CHOICES[name] : undefined;
    const values = choices ?? known[name] ?? [];
    const parts = name === 'cluster' ? value.split(',') : [value];
    const isKnown = parts.some((part) => values.some((known) => matches(part, known)));
    if (isKnown || !(choices || NOUNS[name])) return [];
    const suggestions = similar(value, values);
    // Offers all values that contain the text at once.
    const isPart = suggestions.length > 1 && suggestions.every((other) => other.includes(value));
    if (isPart && !choices) suggestions.unshift(`*${value}*`);
    if (choices) {
      const offered = suggestions.length ? suggestions : [...values];
      return found(`“${value}” is not a known ${name}.`, offered);
    }
    return found(`No ${NOUNS[name]} of the last week matches “${value}”.`, suggestions);
  });
}
