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
  contributions: { family: string; raw: number; capped: number }[];
  hits: { name: string; family: string; weight: number; evidence: Evidence[]; key?: string }[];
  shadow_hits: string[];
  exemption: string | null;
  ruleset: string;
  role: 'embedded' | 'active' | 'canary';
  serial: number | null;
  body_bytes: number;
  unscanned_bytes: number;
  unreadable: string[];
  entries: number;
  error: string | null;
}

export interface Decisions {
  decisions: Decision[];
  /** How many the ledger has, and how many it keeps at most. */
  stored: number;
  capacity: number;
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
    /** Seconds for which the server wants to be left alone. */
    readonly pause = 0,
  ) {
    super(message);
  }
}

/** What a header can hold: fetch refuses anything else. */
const PRINTABLE = /^[ -~]+$/;

/** How far the server's clock is ahead of this one, in milliseconds. */
let ahead = 0;

/** The server's time, in seconds since the epoch: counts are cut into steps by it. */
export const serverNow = () => (Date.now() + ahead) / 1000;

/** Asks the API; throws `ApiError`. A token that is refused is forgotten, so that the page asks for another. */
export async function call<T>(path: string, init: { method?: string; body?: unknown; signal?: AbortSignal; token?: string } = {}): Promise<T> {
  const { method = 'GET', body, signal } = init;
  const own = init.token ?? token();
  if (own && !PRINTABLE.test(own)) throw new ApiError(0, 'token', 'no token has such characters', 'copy it again: it has only letters, digits and signs of ASCII');
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
    throw new ApiError(0, 'offline', 'the Worker does not answer', 'see whether you are online and the Worker runs');
  }
  const date = Date.parse(response.headers.get('date') ?? '');
  if (date) ahead = date - Date.now();
  const answer = (await response.json().catch(() => null)) as { error?: { code: string; message: string; remedy: string } } | null;
  if (response.ok && answer) return answer as T;
  const { code = 'unreadable', message = `the answer is ${response.status}, without a reason`, remedy = 'look at the Worker’s log' } = answer?.error ?? {};
  if (response.status === 401 && !init.token) setToken(null);
  throw new ApiError(response.status, code, message, remedy, Number(response.headers.get('retry-after')) || 0);
}

/** `at` is when the data came, in milliseconds since the epoch. */
export type Loaded<T> = { state: 'loading' } | { state: 'failed'; error: ApiError; data?: T; at?: number } | { state: 'ready'; data: T; at?: number };

/** Seconds that are waited at most after failures, unless the server asks for more. */
const LONGEST = 120;

/** Seconds until the next try: ever more while it fails. One failure may be chance; then a 503's wish can wait. */
function patience(seconds: number, failures: number, error: ApiError | null): number {
  if (!seconds) return 0;
  const own = Math.max(seconds, Math.min(LONGEST, seconds * 2 ** failures));
  return error && (failures > 1 || error.status === 429) ? Math.max(own, error.pause) : own;
}

/**
 * What the API answers to a question, asked again every `seconds` and whenever something happens (`changes`). While it
 * is asked again the last answer stays, so that nothing jumps; and it is asked once at a time, so that a slow answer
 * comes, however often something happens. Who comes back to the page, or goes online, is shown no old numbers for long.
 */
export function useApi<T>(path: string | null, seconds = 0, changes: unknown = null): Loaded<T> & { reload(): void } {
  const own = useToken();
  const [loaded, set] = useState<Loaded<T>>({ state: 'loading' });
  const again = useRef((_forced: boolean): unknown => undefined);
  const asked = useRef('');
  useEffect(() => {
    if (path === null || !own) return;
    const abort = new AbortController();
    const { signal } = abort;
    let state: 'idle' | 'asking' | 'again' = 'idle';
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    const ask = async () => {
      if (state !== 'idle') return void (state = 'again');
      state = 'asking';
      clearTimeout(timer);
      let problem: ApiError | null = null;
      try {
        const data = await call<T>(path, { signal });
        if (!signal.aborted) set({ state: 'ready', data, at: Date.now() });
      } catch (error) {
        const found = (problem = told(error, seconds > 0));
        if (!signal.aborted) set((before) => ({ ...(before.state === 'loading' ? {} : before), state: 'failed', error: found }));
      }
      if (signal.aborted) return;
      failures = problem ? failures + 1 : 0;
      const repeats = (state as string) === 'again' && !problem;
      state = 'idle';
      if (repeats) void ask();
      else later(patience(seconds, failures, problem));
    };
    const later = (pause: number) => {
      if (pause) timer = setTimeout(() => (document.hidden ? later(pause) : void ask()), pause * 1000);
    };
    const back = () => document.hidden || !seconds || void ask();
    // Another pace is no other question.
    if (asked.current !== `${own} ${path}`) set({ state: 'loading' });
    asked.current = `${own} ${path}`;
    again.current = (forced) => (forced || !failures) && void ask();
    document.addEventListener('visibilitychange', back);
    addEventListener('online', back);
    void ask();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', back);
      removeEventListener('online', back);
      again.current = () => {};
    };
  }, [path, seconds, own]);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) again.current(false);
    first.current = false;
  }, [changes]);
  return { ...loaded, reload: () => void again.current(true) };
}

/** What is wrong; that it is tried again is said only where it is. */
function told(error: unknown, polls: boolean): ApiError {
  if (!(error instanceof ApiError)) return new ApiError(0, 'failed', String(error), 'reload the page');
  if (!polls || error.code !== 'offline') return error;
  return new ApiError(0, error.code, error.message, `${error.remedy}; this page tries again`);
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
