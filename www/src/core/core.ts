// What the page asks the core, which runs in a worker. Times are the page's; nothing else is sent there, and nothing
// goes anywhere else.
import { type Action, ApiError, type Band, type Evidence } from '../api.ts';
import { token } from '../session.ts';
import bundleUrl from '../../../build/rules/bundle.json?url';
import sourcesUrl from '../../../build/rules/sources.json?url';

/** What is wrong in a rule file, where, and what to do. */
export interface Finding {
  path: string;
  line: number;
  column: number;
  problem: string;
  remedy: string;
}

/** How an exemplar comes out by its rule alone. */
export interface Exemplar {
  path: string;
  line: number;
  rule: string;
  name: string;
  expected: boolean;
  matches: boolean;
}

/** `exemplars` is empty where the files cannot be read; `bundle` is null where there are findings. */
export interface Report {
  findings: Finding[];
  exemplars: Exemplar[];
  bundle: string | null;
  signatures: number;
}

export interface FieldRow {
  name: string;
  kind: 'text' | 'keyword' | 'address' | 'number' | 'flag' | 'key';
  doc: string;
}

/** What changes from one bundle to another. */
export interface BundleDiff {
  added: string[];
  removed: string[];
  weights: { name: string; from: number; to: number }[];
  changed: string[];
  lists: { name: string; added: number; removed: number }[];
  policy: { path: string; from: unknown; to: unknown }[];
}

/** A request's score; without `decision` where it is no LLM call, which passes unscored. */
export interface Scored {
  llm_call: boolean;
  decision?: {
    dialect: string;
    operation: string;
    score: number;
    prior: number;
    evidence: number;
    contributions: { family: string; raw: number; capped: number }[];
    band: Band;
    action: Action;
    mode: 'shadow' | 'enforce';
    hits: { name: string; family: string; weight: number; evidence: Evidence[] }[];
    shadow_hits: string[];
    exemption: string | null;
    ruleset: string;
    body_bytes: number;
    unscanned_bytes: number;
    unreadable: string[];
    entries: number;
  };
}

/** Every condition of every signature, true or false; a list for each request in the body. */
export interface Explained {
  llm_call: boolean;
  requests: Explanation[][];
}

export interface Explanation {
  name: string;
  weight: number;
  holds: boolean;
  selections: { name: string; holds: boolean; tests: { test: string; holds: boolean; evidence: Evidence | null }[] }[];
}

export type Call =
  | { what: 'check'; files: Record<string, string> }
  | { what: 'diff'; from: string; to: string }
  | { what: 'fields' }
  | { what: 'digest'; bundle: string }
  | { what: 'score' | 'explain'; bundle: string; request: string }
  | { what: 'scores'; bundle: string; requests: string[] };

export type Answer = { id: number; value: unknown } | { id: number; problem: string };

/** A core in a worker of its own. What it is asked it answers in order. */
export class Core {
  #worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  #open = new Map<number, { done(value: never): void; fail(error: Error): void }>();
  #next = 0;
  /** Why it answers nothing any more. */
  #ended: string | null = null;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => {
      const waiting = this.#open.get(data.id);
      this.#open.delete(data.id);
      if ('problem' in data) waiting?.fail(new Error(data.problem));
      else waiting?.done(data.value as never);
    };
    this.#worker.onerror = () => this.#fail('the core could not be loaded; reload the page');
  }

  check = (files: Record<string, string>) => this.#ask<Report>({ what: 'check', files });
  diff = (from: string, to: string) => this.#ask<BundleDiff>({ what: 'diff', from, to });
  fields = () => this.#ask<FieldRow[]>({ what: 'fields' });
  digest = (bundle: string) => this.#ask<string>({ what: 'digest', bundle });
  /** A request is raw HTTP, or a line of recorded traffic (JSON). Rejects where it cannot be read, with the reason. */
  score = (bundle: string, request: string) => this.#ask<Scored>({ what: 'score', bundle, request });
  explain = (bundle: string, request: string) => this.#ask<Explained>({ what: 'explain', bundle, request });
  /** Scores many; what cannot be read has an `error`. */
  scores = (bundle: string, requests: string[]) => this.#ask<(Scored | { error: string })[]>({ what: 'scores', bundle, requests });

  /** Ends it, whatever it is about to do. */
  end() {
    this.#worker.terminate();
    this.#fail('ended');
  }

  #ask<T>(call: Call): Promise<T> {
    if (this.#ended) return Promise.reject(new Error(this.#ended));
    const id = this.#next++;
    return new Promise<T>((done, fail) => {
      this.#open.set(id, { done: done as (value: never) => void, fail });
      this.#worker.postMessage({ id, call });
    });
  }

  #fail(reason: string) {
    this.#ended = reason;
    for (const { fail } of this.#open.values()) fail(new Error(reason));
    this.#open.clear();
  }
}

let shared: Core | undefined;

/** The page's core. What takes long has one of its own. */
export const core = () => (shared ??= new Core());

/** What was loaded once stays; what failed is tried again. */
function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loading: Promise<T> | undefined;
  return () => {
    loading ??= load().catch((error) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
}

/** The bundle of the rules that this console was built with. */
export const shippedBundle = once(async () => (await file(bundleUrl)).text());
/** Their files, by path below `rules/`. */
export const shippedSources = once(async () => (await file(sourcesUrl)).json() as Promise<Record<string, string>>);

/** Outside of development the rules are given only to those who have a token. */
async function file(url: string): Promise<Response> {
  const own = token();
  const response = await fetch(url, { headers: own ? { authorization: `Bearer ${own}` } : {} }).catch(() => null);
  if (!response) throw new ApiError(0, 'offline', 'the rules could not be loaded', 'see whether you are online, and reload the page');
  if (response.ok) return response;
  if (response.status === 401) throw new ApiError(401, 'unauthorized', 'the rules of this deployment are not public', 'open the overview with a token, and come back; the playground takes a bundle of your own, too');
  throw new ApiError(response.status, 'unreadable', `the rules could not be loaded (${response.status})`, 'reload the page');
}
