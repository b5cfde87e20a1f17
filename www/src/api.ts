// The admin API as the console uses it; docs/openapi.yaml says all of it.
import { useEffect, useRef, useState } from 'preact/hooks';
import { setToken, token, useToken } from './session.ts';

export type Band = 'clear' | 'notice' | 'suspect' | 'hostile';
export type Action = 'allow' | 'tag' | 'degrade' | 'throttle' | 'block';
export const BANDS: readonly Band[] = ['clear', 'notice', 'suspect', 'hostile'];
export const ACTIONS: readonly Action[] = ['allow', 'tag', 'degrade', 'throttle', 'block'];

/** Counts over time: `at[i]` is when the i-th step begins, in seconds since the epoch. */
export interface Series {
  minutes: number;
  step: number;
  at: number[];
  bands: Record<Band, number[]>;
  actions: Record<Action, number[]>;
  /** Requests by score: twenty steps of five, from 0 to 100. */
  scores: number[];
  /** Signatures, lists and correlations by hits, most first; `points` is as long as `at`. */
  signatures: { name: string; hits: number; points: number[] }[];
  errors: { what: string; count: number; points: number[] }[];
  /** Requests by ruleset, with the role in which it decided. */
  rulesets: { ruleset: string; serial: number; role: 'embedded' | 'active' | 'canary'; requests: number; bands: Partial<Record<Band, number>> }[];
}

export interface Evidence {
  field: string;
  start: number;
  end: number;
}

/** A decision as the ledger keeps it. There is no text of a request in it, for none is kept. */
export interface Decision {
  /** The request id, which the client saw as `x-hedgerow-request-id`. */
  request_id: string;
  /** Milliseconds since the epoch. */
  at: number;
  colo: string;
  model: string | null;
  account: string | null;
  cluster: string | null;
  dialect: string;
  operation: string;
  /** Null where scoring failed. */
  score: number | null;
  band: Band | null;
  action: Action;
  mode: 'shadow' | 'enforce';
  /** Decibans before any evidence, and of evidence after caps. */
  prior: number;
  evidence: number;
  /** What each family contributed: the sum of its weights, and what its cap left. */
  contributions: { family: string; sum: number; counted: number }[];
  hits: { name: string; family: string; weight: number; evidence: Evidence[]; key?: string }[];
  shadow_hits: string[];
  exemption: string | null;
  ruleset: string;
  role: 'embedded' | 'active' | 'canary';
  serial: number | null;
  body_bytes: number;
  unscanned: number;
  unreadable: string[];
  entries: number;
  error: string | null;
}

export interface Decisions {
  decisions: Decision[];
  /** How many the ledger has, and how many it keeps at most. */
  kept: number;
  most: number;
}

export interface Bundle {
  digest: string;
  serial: number;
  created: number;
  bytes: number;
  signatures: number;
  lists: number;
  uploaded: number;
}

export interface Release {
  serial: number;
  kind: string;
  published: number | null;
  release: { serial: number; created: number; active: string; canary?: { digest: string; percent: number }; shadow?: { digest: string }; expires?: number; note: string; author: string };
}

export interface Status {
  now: number;
  version: string;
  embedded: string | null;
  keys: string[];
  release: Release | null;
  publication: { serial: number | null; pending: number | null; attempts: number; problem: string | null };
  pull: { url_set: boolean; checked: number | null; changed: number | null; problem: string | null } | null;
  indicators: { count: number; clusters: number; pending: boolean; problem: string | null };
  ledger: { reachable: boolean };
  traffic: {
    requests: number;
    by_serial: Record<string, number>;
    by_ruleset: Record<string, number>;
    by_role: Record<string, number>;
    by_band: Partial<Record<Band, number>>;
    by_action: Partial<Record<Action, number>>;
    by_mode: Record<string, number>;
    by_colo: Record<string, number>;
    signatures: { name: string; hits: number }[];
    errors: { what: string; count: number }[];
    shadow: { ruleset: string; requests: number; bands: { from: Band; to: Band; count: number }[]; signatures: { name: string; only_active: number; only_shadow: number }[] } | null;
  };
}

/** An answer that is an error: what is wrong, and what to do about it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

/** Asks the API; throws `ApiError`. A token that is refused is forgotten, so that the page asks for another. */
export async function call<T>(path: string, init: { method?: string; body?: unknown; signal?: AbortSignal; token?: string } = {}): Promise<T> {
  const { method = 'GET', body, signal } = init;
  const own = init.token ?? token();
  let response: Response;
  try {
    response = await fetch(`/_hedgerow/v1${path}`, {
      method,
      headers: { ...(own && { authorization: `Bearer ${own}` }), ...(body !== undefined && { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'offline', 'the Worker does not answer', 'see whether you are online and the Worker runs; this page tries again');
  }
  const answer = (await response.json().catch(() => null)) as { error?: { code: string; message: string; remedy: string } } | null;
  if (response.ok && answer) return answer as T;
  const { code = 'unreadable', message = `the answer is ${response.status}, without a reason`, remedy = 'look at the Worker’s log' } = answer?.error ?? {};
  if (response.status === 401 && !init.token) setToken(null);
  throw new ApiError(response.status, code, message, remedy);
}

export type Loaded<T> = { state: 'loading' } | { state: 'failed'; error: ApiError; data?: T } | { state: 'ready'; data: T };

/**
 * What the API answers to a question, asked again every `seconds` and whenever something happens (`changes`). While it
 * is asked again the last answer stays, so that nothing jumps; and it is asked once at a time, so that a slow answer
 * comes, however often something happens.
 */
export function useApi<T>(path: string | null, seconds = 0, changes: unknown = null): Loaded<T> & { reload(): void } {
  const own = useToken();
  const [loaded, set] = useState<Loaded<T>>({ state: 'loading' });
  const again = useRef(() => {});
  const asked = useRef('');
  useEffect(() => {
    if (path === null || !own) return;
    const abort = new AbortController();
    const { signal } = abort;
    let state: 'idle' | 'asking' | 'again' = 'idle';
    const ask = async () => {
      if (state !== 'idle') return void (state = 'again');
      state = 'asking';
      try {
        const data = await call<T>(path, { signal });
        if (!signal.aborted) set({ state: 'ready', data });
      } catch (error) {
        if (signal.aborted) return;
        const problem = error instanceof ApiError ? error : new ApiError(0, 'failed', String(error), 'reload the page');
        set((before) => ({ state: 'failed', error: problem, data: before.state === 'loading' ? undefined : before.data }));
      }
      const repeats = (state as string) === 'again';
      state = 'idle';
      if (repeats && !signal.aborted) void ask();
    };
    // Another pace is no other question.
    if (asked.current !== `${own} ${path}`) set({ state: 'loading' });
    asked.current = `${own} ${path}`;
    again.current = () => void ask();
    void ask();
    const timer = seconds ? setInterval(() => document.hidden || void ask(), seconds * 1000) : undefined;
    return () => {
      abort.abort();
      clearInterval(timer);
      again.current = () => {};
    };
  }, [path, seconds, own]);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) again.current();
    first.current = false;
  }, [changes]);
  return { ...loaded, reload: () => again.current() };
}

/**
 * A number that grows whenever the ledger was told something: by WebSocket, so that nothing is asked in vain. `live`
 * is false while there is no connection; then whoever uses it polls.
 */
export function useLive(): { tick: number; live: boolean } {
  const own = useToken();
  const [tick, setTick] = useState(0);
  const [live, setLive] = useState(false);
  useEffect(() => {
    if (!own) return;
    let socket: WebSocket | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    let ended = false;
    const connect = async () => {
      const url = new URL('/_hedgerow/v1/live', location.href);
      url.protocol = url.protocol.replace('http', 'ws');
      let ticket: string;
      try {
        // Browsers can set no header of a WebSocket's but its protocols, where the token itself shall not stand.
        ({ ticket } = await call<{ ticket: string }>('/live/ticket'));
      } catch {
        return again();
      }
      if (ended) return;
      socket = new WebSocket(url, ['hedgerow.v1', `ticket.${ticket}`]);
      socket.onopen = () => {
        failures = 0;
        setLive(true);
      };
      socket.onmessage = () => setTick((tick) => tick + 1);
      socket.onclose = again;
    };
    const again = () => {
      setLive(false);
      if (ended) return;
      failures += 1;
      timer = setTimeout(() => void connect(), Math.min(60_000, 1000 * 2 ** failures));
    };
    void connect();
    return () => {
      ended = true;
      clearTimeout(timer);
      socket?.close();
    };
  }, [own]);
  return { tick, live };
}
