// What the core says about a request, while it is being written.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Core, core, shippedBundle } from '../core/core.ts';
import { InputError } from './problem.ts';

/** Rules as they are scored with, and what of them a page shows. */
export interface Rules {
  /** Null for the shipped ones, else the file's name. */
  file: string | null;
  text: string;
  digest: string;
  enforce: { retryAfter: number; failClosed: boolean };
  signatures: Map<string, { title: string; condition: string }>;
}

type Condition = { is: string } | { not: Condition } | { all: Condition[] } | { any: Condition[] };

/** A condition as Sigma writes it. */
function written(condition: Condition, within: '' | 'all' | 'any' | 'not' = ''): string {
  if ('is' in condition) return condition.is;
  if ('not' in condition) return `not ${written(condition.not, 'not')}`;
  const [kind, word, parts] = 'all' in condition ? (['all', 'and', condition.all] as const) : (['any', 'or', condition.any] as const);
  const text = parts.map((part) => written(part, kind)).join(` ${word} `);
  return within && within !== kind && parts.length > 1 ? `(${text})` : text;
}

async function rulesOf(file: string | null, text: string): Promise<Rules> {
  const digest = await core().digest(text);
  // The core has accepted it, so it has this form.
  const bundle = JSON.parse(text) as {
    policy?: { enforce?: { retry_after?: number; fail_closed?: boolean } };
    signatures?: { name: string; title: string; condition: Condition }[];
  };
  const signatures = new Map((bundle.signatures ?? []).map(({ name, title, condition }) => [name, { title, condition: written(condition) }]));
  const { retry_after: retryAfter = 60, fail_closed: failClosed = false } = bundle.policy?.enforce ?? {};
  return { file, text, digest, enforce: { retryAfter, failClosed }, signatures };
}

let own: Rules | null = null;

/** The rules to score with: those of this build, or a bundle from a file, which stays until the page is closed. */
export function useRules() {
  const [shipped, setShipped] = useState<Rules | null>(null);
  const [loaded, setLoaded] = useState(own);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    shippedBundle()
      .then((text) => rulesOf(null, text))
      .then(setShipped, (error: unknown) => {
        // Whoever has a bundle of their own does without.
        if (own) return;
        setError(error instanceof ApiError ? error : new InputError(`The rules could not be loaded (${messageOf(error)}).`, 'Reload the page.'));
      });
  }, []);
  const load = async (file: File) => {
    try {
      if (file.size > 32 << 20) throw new Error('it is larger than 32 MiB');
      own = await rulesOf(file.name, await file.text());
      setLoaded(own);
      setError(null);
    } catch (error) {
      setError(new InputError(`The file ${file.name.slice(0, 80)} cannot be used: ${messageOf(error)}.`, 'Choose the bundle.json that hedgerow build writes.'));
    }
  };
  const useShipped = () => {
    own = null;
    setLoaded(null);
    setError(null);
  };
  return { rules: loaded ?? shipped, shipped, error, load, useShipped };
}

export const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error)).slice(0, 400);

/** An answer, and the question that it answers. */
export type Answered<Q, A> = { question: Q; answer: A } | { question: Q; problem: string } | null;

/**
 * Asks about the newest question, `pause` milliseconds after it was last changed, and one at a time: what has changed
 * meanwhile is asked next, and what nobody waits for any more never. The last answer stays until there is another.
 */
export function useLatest<Q, A>(question: Q | null, ask: (question: Q) => Promise<A>, pause: number): Answered<Q, A> {
  const [answered, set] = useState<Answered<Q, A>>(null);
  const newest = useRef<Q | null>(null);
  const asked = useRef<Q | null>(null);
  const busy = useRef(false);
  newest.current = question;
  useEffect(() => {
    if (question === null) return set(null);
    const timer = setTimeout(async () => {
      if (busy.current) return;
      busy.current = true;
      for (let current = newest.current; current !== null && current !== asked.current; current = newest.current) {
        asked.current = current;
        const own: Q = current;
        const next = await ask(own).then(
          (answer) => ({ question: own, answer }),
          (error: unknown) => ({ question: own, problem: messageOf(error) }),
        );
        if (newest.current !== null) set(next);
      }
      busy.current = false;
    }, pause);
    return () => clearTimeout(timer);
  }, [question]);
  useEffect(() => () => void (newest.current = null), []);
  return answered;
}

let second: Core | undefined;

/** Explaining takes seconds where a body is large, and must not keep scoring waiting. */
export const explainer = () => (second ??= new Core());
