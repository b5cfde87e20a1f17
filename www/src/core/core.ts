// Client of the core, which runs in a Web Worker. Also loads the rules that the console was built
// with.
import { type Action, ApiError, type Band, type Contribution, type Evidence } from '../api.ts';
import { token } from '../session.ts';
import bundleUrl from '../../../build/rules/bundle.json?url';
import sourcesUrl from '../../../build/rules/sources.json?url';

/** A problem in a rule file, with its remedy. */
export interface Finding {
  path: string;
  line: number;
  column: number;
  problem: string;
  remedy: string;
}

/** The result of testing a rule with one of its exemplars. */
export interface ExemplarResult {
  path: string;
  line: number;
  rule: string;
  name: string;
  expected: Verdict;
  actual: Verdict;
}

/** The verdict of a rule on an event. */
export type Verdict = 'match' | 'innocent' | 'no-match';

export interface Report {
  findings: Finding[];
  /** Results of the exemplars; empty if the files cannot be read. */
  exemplars: ExemplarResult[];
  /** Text of the bundle; null if there are findings. */
  bundle: string | null;
  signatures: number;
}

export interface FieldSpec {
  name: string;
  kind: 'text' | 'keyword' | 'address' | 'number' | 'flag' | 'key';
  doc: string;
}

/** The differences between two bundles. */
export interface BundleDiff {
  added: string[];
  removed: string[];
  weights: { name: string; from: number; to: number }[];
  changed: string[];
  concepts: { name: string; added: number; removed: number }[];
  lists: { name: string; added: number; removed: number }[];
  policy: { path: string; from: unknown; to: unknown }[];
}

export interface Scored {
  llm_call: boolean;
  /** Absent if the request is not an LLM call; such requests are not scored. */
  decision?: {
    dialect: string;
    operation: string;
    score: number;
    prior: number;
    evidence: number;
    contributions: Contribution[];
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
    unscored: string[];
    scored_share: number | null;
    incomplete?: string;
    entries: number;
  };
}

/** All comparisons of all signatures. `requests` has a list for each request in the body. */
export interface Explained {
  llm_call: boolean;
  requests: Explanation[][];
}

/** The text of a request, divided into passages by role. */
export interface RequestPassages {
  llm_call: boolean;
  /** The first 2,000 passages, in reading order. Text without a role is not included. */
  passages: Passage[];
}

/** Bytes `start` to `end` of the body. */
export interface Passage {
  /** Field of the role: `hedgerow.prompt.instruction`, for example. */
  field: string;
  /** Field of the section that the text is in: `hedgerow.prompt.user`, for example. */
  section: string;
  start: number;
  end: number;
}

export interface Explanation {
  name: string;
  weight: number;
  holds: boolean;
  /** Names of the selections that are evidence for an innocent request. */
  innocence: string[];
  selections: {
    name: string;
    holds: boolean;
    tests: { test: string; holds: boolean; evidence: Evidence | null }[];
  }[];
}

export type WorkerRequest =
  | { type: 'check'; files: Record<string, string> }
  | { type: 'diff'; from: string; to: string }
  | { type: 'fields' }
  | { type: 'digest'; bundle: string }
  | { type: 'score' | 'explain' | 'passages'; bundle: string; request: string }
  | { type: 'scoreAll'; bundle: string; requests: string[] };

export type WorkerResponse = { id: number; value: unknown } | { id: number; problem: string };

/** A core in its own Web Worker. It answers requests in order. */
export class Core {
  #worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  #pending = new Map<number, { resolve(value: never): void; reject(error: Error): void }>();
  #nextId = 0;
  /** Reason why the core no longer answers. */
  #failure: string | null = null;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<WorkerResponse>) => {
      const pending = this.#pending.get(data.id);
      this.#pending.delete(data.id);
      if ('problem' in data) pending?.reject(new Error(data.problem));
      else pending?.resolve(data.value as never);
    };
    this.#worker.onerror = () => this.#fail('the core could not be loaded; reload the page');
  }

  check = (files: Record<string, string>) => this.#send<Report>({ type: 'check', files });
  diff = (from: string, to: string) => this.#send<BundleDiff>({ type: 'diff', from, to });
  fields = () => this.#send<FieldSpec[]>({ type: 'fields' });
  digest = (bundle: string) => this.#send<string>({ type: 'digest', bundle });
  /**
   * Scores a request: raw HTTP, or a line of recorded traffic (JSON). Rejects if the request is
   * invalid.
   */
  score = (bundle: string, request: string) =>
    this.#send<Scored>({ type: 'score', bundle, request });
  explain = (bundle: string, request: string) =>
    this.#send<Explained>({ type: 'explain', bundle, request });
  passages = (bundle: string, request: string) =>
    this.#send<RequestPassages>({ type: 'passages', bundle, request });
  /** Scores many requests. The result of an invalid request has an `error`. */
  scoreAll = (bundle: string, requests: string[]) =>
    this.#send<(Scored | { error: string })[]>({ type: 'scoreAll', bundle, requests });

  /** Stops the core, and rejects the requests in progress. */
  end() {
    this.#worker.terminate();
    this.#fail('ended');
  }

  #send<T>(request: WorkerRequest): Promise<T> {
    if (this.#failure) return Promise.reject(new Error(this.#failure));
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: never) => void, reject });
      this.#worker.postMessage({ id, request });
    });
  }

  #fail(reason: string) {
    this.#failure = reason;
    for (const { reject } of this.#pending.values()) reject(new Error(reason));
    this.#pending.clear();
  }
}

let shared: Core | undefined;

/**
 * Returns the shared core of the page. Long tasks use a separate core, so that they do not delay
 * other requests.
 */
export const core = () => (shared ??= new Core());

/** Caches a result. A failure is not cached. */
function cached<T>(load: () => Promise<T>): () => Promise<T> {
  let loading: Promise<T> | undefined;
  return () => {
    loading ??= load().catch((error) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
}

/** Loads the bundle of the rules that this console was built with. */
export const shippedBundle = cached(async () => (await fetchRules(bundleUrl)).text());
/** Loads the files of the shipped rules, by path below `rules/`. */
export const shippedSources = cached(
  async () => (await fetchRules(sourcesUrl)).json() as Promise<Record<string, string>>,
);

/** Fetches a file of the rules. Outside development, the Worker requires a token for it. */
async function fetchRules(url: string): Promise<Response> {
  const credential = token();
  const headers = credential ? { authorization: `Bearer ${credential}` } : undefined;
  const response = await fetch(url, { headers }).catch(() => null);
  if (!response) {
    throw new ApiError(
      0,
      'offline',
      'the rules could not be loaded',
      'check that you are online, and reload the page',
    );
  }
  if (response.ok) return response;
  if (response.status === 401) {
    throw new ApiError(
      401,
      'unauthorized',
      'the rules of this deployment are not public',
      'open the overview with a token, and return; or load a bundle into the playground',
    );
  }
  throw new ApiError(
    response.status,
    'unreadable',
    `the rules could not be loaded (${response.status})`,
    'reload the page',
  );
}
