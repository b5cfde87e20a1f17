// Scoring of a request while it is edited, and the rules to score with.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Core, core, shippedBundle } from '../core/core.ts';
import { InputError } from './input-error.ts';

/** A bundle, and the parts of it that the page shows. */
export interface Rules {
  /** Name of the file; null for the shipped rules. */
  file: string | null;
  /** Text of the bundle. */
  text: string;
  digest: string;
  enforce: { retryAfter: number; failClosed: boolean };
  signatures: Map<string, { title: string; condition: string }>;
}

type Condition = { is: string } | { not: Condition } | { all: Condition[] } | { any: Condition[] };

/** Formats a condition in Sigma's syntax. */
function formatCondition(condition: Condition, within: '' | 'all' | 'any' | 'not' = ''): string {
  if ('is' in condition) return condition.is;
  if ('not' in condition) return `not ${formatCondition(condition.not, 'not')}`;
  const isAll = 'all' in condition;
  const parts = isAll ? condition.all : condition.any;
  const kind = isAll ? 'all' : 'any';
  const text = parts.map((part) => formatCondition(part, kind)).join(isAll ? ' and ' : ' or ');
  return within && within !== kind && parts.length > 1 ? `(${text})` : text;
}

/** Loads a bundle. Rejects if the core rejects the bundle. */
async function loadRules(file: string | null, text: string): Promise<Rules> {
  const digest = await core().digest(text);
  // The core has accepted the bundle, so the bundle has this type.
  const bundle = JSON.parse(text) as {
    policy?: { enforce?: { retry_after?: number; fail_closed?: boolean } };
    signatures?: { name: string; title: string; condition: Condition }[];
  };
  const signatures = new Map(
    (bundle.signatures ?? []).map(({ name, title, condition }) => [
      name,
      { title, condition: formatCondition(condition) },
    ]),
  );
  const { enforce } = bundle.policy ?? {};
  const { retry_after: retryAfter = 60, fail_closed: failClosed = false } = enforce ?? {};
  return { file, text, digest, enforce: { retryAfter, failClosed }, signatures };
}

/** The rules from a file, which are kept until the page is closed. */
let fileRules: Rules | null = null;

const MAX_BUNDLE_BYTES = 32 << 20;

/** Returns the rules to score with: the shipped rules, or a bundle from a file. */
export function useRules() {
  const [shipped, setShipped] = useState<Rules | null>(null);
  const [loaded, setLoaded] = useState(fileRules);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    shippedBundle()
      .then((text) => loadRules(null, text))
      .then(setShipped, (error: unknown) => {
        // With a bundle from a file, the shipped rules are not needed.
        if (fileRules) return;
        const known = error instanceof ApiError;
        const message = `The rules could not be loaded (${messageOf(error)}).`;
        setError(known ? error : new InputError(message, 'Reload the page.'));
      });
  }, []);
  const load = async (file: File) => {
    try {
      if (file.size > MAX_BUNDLE_BYTES) throw new Error('it is larger than 32 MiB');
      fileRules = await loadRules(file.name, await file.text());
      setLoaded(fileRules);
      setError(null);
    } catch (error) {
      const name = file.name.slice(0, 80);
      setError(
        new InputError(
          `The bundle ${name} could not be loaded: ${messageOf(error)}.`,
          'Choose the bundle.json that `hedgerow build` writes.',
        ),
      );
    }
  };
  const useShipped = () => {
    fileRules = null;
    setLoaded(null);
    setError(null);
  };
  return { rules: loaded ?? shipped, shipped, error, load, useShipped };
}

export const messageOf = (error: unknown) =>
  (error instanceof Error ? error.message : String(error)).slice(0, 400);

/** The answer or the problem of a query; null before the first query. */
export type QueryResult<Q, A> = { query: Q; answer: A } | { query: Q; problem: string } | null;

/**
 * Runs the newest query `delay` milliseconds after its last change. Only one query runs at a time.
 * The next run takes the newest query, and skips queries in between. Returns the last result until
 * the next result is available.
 */
export function useDebouncedQuery<Q, A>(
  query: Q | null,
  run: (query: Q) => Promise<A>,
  delay: number,
): QueryResult<Q, A> {
  const [result, setResult] = useState<QueryResult<Q, A>>(null);
  const newest = useRef<Q | null>(null);
  const started = useRef<Q | null>(null);
  const isRunning = useRef(false);
  newest.current = query;
  useEffect(() => {
    if (query === null) return setResult(null);
    const timer = setTimeout(async () => {
      if (isRunning.current) return;
      isRunning.current = true;
      while (newest.current !== null && newest.current !== started.current) {
        const current: Q = newest.current;
        started.current = current;
        const next = await run(current).then(
          (answer) => ({ query: current, answer }),
          (error: unknown) => ({ query: current, problem: messageOf(error) }),
        );
        if (newest.current !== null) setResult(next);
      }
      isRunning.current = false;
    }, delay);
    return () => clearTimeout(timer);
  }, [query]);
  useEffect(() => () => void (newest.current = null), []);
  return result;
}

let explainerCore: Core | undefined;

/**
 * Returns a separate core for explanations, because explaining a large body takes seconds and must
 * not delay scoring.
 */
export const explainer = () => (explainerCore ??= new Core());
