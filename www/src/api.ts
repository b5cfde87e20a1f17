// Client of the admin API, which docs/openapi.yaml describes.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Action, Band, ErrorBody, LiveTicket } from './api-types.ts';
import { toPlainError } from './plain-errors.ts';
import { setToken, token, useToken } from './session.ts';

export type * from './api-types.ts';

export const BANDS: readonly Band[] = ['clear', 'notice', 'suspect', 'hostile'];
export const ACTIONS: readonly Action[] = ['allow', 'tag', 'degrade', 'throttle', 'block'];

/** An error of the API, or of the console itself (`status` 0), with its remedy. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly remedy: string,
    /** Seconds to wait before the next attempt, from the header `Retry-After`. */
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

/** Characters that `fetch` accepts in a header. */
const PRINTABLE = /^[ -~]+$/;

/** Milliseconds that the server's clock is ahead of the browser's. */
let clockOffset = 0;

/**
 * Returns the server's time in seconds since the epoch. Needed for series, whose steps begin at
 * multiples of their length on the server's clock.
 */
export const serverNow = () => (Date.now() + clockOffset) / 1000;

interface CallOptions {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
  /** Token for this call, instead of the token of the session. */
  token?: string;
}

/**
 * Calls the API. Throws `ApiError`. If the API rejects the token of the session, removes the token,
 * so that the page asks for a new one.
 */
export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  const { method = 'GET', body, signal } = options;
  const credential = options.token ?? token();
  if (credential && !PRINTABLE.test(credential)) {
    throw new ApiError(
      0,
      'token',
      'the token is invalid: expected ASCII letters, digits and signs',
      'copy it again',
    );
  }
  let response: Response;
  try {
    response = await fetch(`/_hedgerow/v1${path}`, {
      method,
      headers: {
        ...(credential && { authorization: `Bearer ${credential}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'offline', ...toPlainError(0, ''));
  }
  const date = Date.parse(response.headers.get('date') ?? '');
  if (date) clockOffset = date - Date.now();
  const answer = (await response.json().catch(() => null)) as Partial<ErrorBody> | null;
  if (response.ok && answer) return answer as T;
  const { code = 'unreadable', message, remedy } = answer?.error ?? {};
  if (response.status === 401 && !options.token) setToken(null);
  const retryAfter = Number(response.headers.get('retry-after')) || 0;
  const plain = toPlainError(response.status, code, message, remedy);
  throw new ApiError(response.status, code, ...plain, retryAfter);
}

/**
 * State of data from the API. `at` is the time of the last answer, in milliseconds since the epoch.
 */
export type Loaded<T> =
  | { state: 'loading' }
  | { state: 'failed'; error: ApiError; data?: T; at?: number }
  | { state: 'ready'; data: T; at?: number };

/** Returns the last answer; undefined before the first one. */
export const latest = <T>(loaded: Loaded<T>) =>
  loaded.state === 'loading' ? undefined : loaded.data;

/** Maximum number of seconds between retries, unless the server asks for more. */
const MAX_RETRY_SECONDS = 120;

/**
 * Returns the seconds until the next request; 0 means never. The delay doubles with each failure.
 * The `Retry-After` of a 503 applies only from the second failure on, because a single failure may
 * be an exception.
 */
function retryDelay(seconds: number, failures: number, error: ApiError | null): number {
  if (!seconds) return 0;
  const delay = Math.max(seconds, Math.min(MAX_RETRY_SECONDS, seconds * 2 ** failures));
  const isServerDelay = error && (failures > 1 || error.status === 429);
  return isServerDelay ? Math.max(delay, error.retryAfter) : delay;
}

/**
 * Loads `path`, and loads it again every `seconds`, when `changes` changes, and when the page
 * becomes visible or online. The last answer stays until the next answer, so that the layout does
 * not jump. Sends only one request at a time. Otherwise, frequent changes of `changes` would cancel
 * slow answers.
 */
export function useApi<T>(
  path: string | null,
  seconds = 0,
  changes: unknown = null,
): Loaded<T> & { reload(): void } {
  const credential = useToken();
  const [loaded, setLoaded] = useState<Loaded<T>>({ state: 'loading' });
  const request = useRef((_forced: boolean): unknown => undefined);
  const requested = useRef('');
  // A request that does not repeat would count as failing for ever.
  useFailing(path !== null && seconds > 0 && loaded.state === 'failed');
  useEffect(() => {
    if (path === null || !credential) return;
    const abort = new AbortController();
    const { signal } = abort;
    let state: 'idle' | 'loading' | 'repeat' = 'idle';
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    const load = async () => {
      if (state !== 'idle') return void (state = 'repeat');
      state = 'loading';
      clearTimeout(timer);
      let failure: ApiError | null = null;
      try {
        const data = await call<T>(path, { signal });
        if (!signal.aborted) setLoaded({ state: 'ready', data, at: Date.now() });
      } catch (error) {
        const known = (failure = toApiError(error, seconds > 0));
        if (!signal.aborted) {
          setLoaded((previous) => ({
            ...(previous.state === 'loading' ? {} : previous),
            state: 'failed',
            error: known,
          }));
        }
      }
      if (signal.aborted) return;
      failures = failure ? failures + 1 : 0;
      const repeats = (state as string) === 'repeat' && !failure;
      state = 'idle';
      if (repeats) void load();
      else schedule(retryDelay(seconds, failures, failure));
    };
    const schedule = (delay: number) => {
      if (!delay) return;
      timer = setTimeout(() => (document.hidden ? schedule(delay) : void load()), delay * 1000);
    };
    const onReturn = () => document.hidden || !seconds || void load();
    // If only the interval has changed, the data is still valid.
    if (requested.current !== `${credential} ${path}`) setLoaded({ state: 'loading' });
    requested.current = `${credential} ${path}`;
    request.current = (forced) => (forced || !failures) && void load();
    document.addEventListener('visibilitychange', onReturn);
    addEventListener('online', onReturn);
    void load();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onReturn);
      removeEventListener('online', onReturn);
      request.current = () => {};
    };
  }, [path, seconds, credential]);
  const isFirst = useRef(true);
  useEffect(() => {
    if (!isFirst.current) request.current(false);
    isFirst.current = false;
  }, [changes]);
  return { ...loaded, reload: () => void request.current(true) };
}

/**
 * Converts an error to an `ApiError`. If the page polls, the remedy says that the page tries again.
 */
function toApiError(error: unknown, polls: boolean): ApiError {
  if (!(error instanceof ApiError)) {
    return new ApiError(0, 'failed', `this page has failed: ${String(error)}`, 'reload the page');
  }
  const { status, code, message, remedy, retryAfter } = error;
  if (!polls || (status > 0 && status < 500)) return error;
  return new ApiError(status, code, message, `${remedy}; this page tries again`, retryAfter);
}

/** Number of components whose last repeated request failed. */
let failing = 0;
const FAILING = 'hedgerow:failing';

/** Counts the component among those whose last request failed, while `fails` is true. */
function useFailing(fails: boolean) {
  useEffect(() => {
    if (!fails) return;
    const add = (number: number) => {
      failing += number;
      dispatchEvent(new Event(FAILING));
    };
    add(1);
    return () => add(-1);
  }, [fails]);
}

/** Returns whether the last request of any component failed, and renders again when it changes. */
export function useIsFailing(): boolean {
  const [isFailing, setIsFailing] = useState(failing > 0);
  useEffect(() => {
    const update = () => setIsFailing(failing > 0);
    addEventListener(FAILING, update);
    update();
    return () => removeEventListener(FAILING, update);
  }, []);
  return isFailing;
}

/** Closes a WebSocket. The browser logs an error if one is closed while it connects. */
function closeQuietly(socket: WebSocket) {
  if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
  else socket.close();
}

/**
 * Opens the WebSocket that notifies of new data. `tick` grows with each message. `live` is false
 * while there is no connection; callers then poll.
 */
export function useLive(): { tick: number; live: boolean } {
  const credential = useToken();
  const [tick, setTick] = useState(0);
  const [live, setLive] = useState(false);
  useEffect(() => {
    if (!credential) return;
    let socket: WebSocket | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    let closed = false;
    const connect = async () => {
      const url = new URL('/_hedgerow/v1/live', location.href);
      url.protocol = url.protocol.replace('http', 'ws');
      let ticket: string;
      try {
        // Browsers cannot set headers of a WebSocket except its protocols, and logs may contain the
        // protocols. So a short-lived ticket is sent instead of the token.
        ({ ticket } = await call<LiveTicket>('/live/ticket'));
      } catch {
        return reconnect();
      }
      if (closed) return;
      socket = new WebSocket(url, ['hedgerow.v1', `ticket.${ticket}`]);
      socket.onopen = () => {
        failures = 0;
        setLive(true);
      };
      socket.onmessage = () => setTick((tick) => tick + 1);
      socket.onclose = reconnect;
    };
    const reconnect = () => {
      setLive(false);
      if (closed) return;
      failures += 1;
      timer = setTimeout(() => void connect(), Math.min(60_000, 1000 * 2 ** failures));
    };
    void connect();
    return () => {
      closed = true;
      clearTimeout(timer);
      if (socket) closeQuietly(socket);
    };
  }, [credential]);
  return { tick, live };
}
