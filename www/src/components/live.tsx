// What is shown is asked for again when the ledger was told something, and every few seconds besides: the socket is the
// first shard's only, and time goes on without requests, too.
import { useEffect, useRef, useState } from 'preact/hooks';
import { useLive } from '../api.ts';

/** `changes` and `seconds` are for `useApi`: at most one question in `pause` milliseconds. */
export function useChanges(pause = 5000): { changes: number; seconds: number; live: boolean } {
  const { tick, live } = useLive();
  const [changes, set] = useState(0);
  const last = useRef(0);
  useEffect(() => {
    const timer = setTimeout(() => {
      last.current = Date.now();
      if (!document.hidden) set(tick);
    }, Math.max(0, last.current + pause - Date.now()));
    return () => clearTimeout(timer);
  }, [tick, pause]);
  return { changes, live, seconds: Math.max(pause / 1000, live ? 10 : 5) };
}

/** Whether what is shown is as it is now; `at` is when it came, which is asked again every `seconds`. */
export function LiveState({ live, at, seconds = 5 }: { live: boolean; at?: number; seconds?: number }) {
  return (
    <>
      {at !== undefined && <AsOf at={at} seconds={seconds} />}
      <span class={`live-state ${live ? 'is-live' : ''}`} role="status" title={live ? 'Counts come as they are reported' : `No live connection: asked again every ${seconds} s`}>
        {live ? 'live' : 'polling'}
      </span>
    </>
  );
}

/** When the last answer came; that it is old when two polls brought none. */
function AsOf({ at, seconds }: { at: number; seconds: number }) {
  const [, look] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => look(Date.now()), 2000);
    return () => clearInterval(timer);
  }, []);
  const old = Date.now() - at > 2000 * seconds + 1000;
  return (
    <span class={`as-of ${old ? 'is-old' : ''}`}>
      as of {new Date(at).toLocaleTimeString(undefined, { hourCycle: 'h23' })} <b>{old && 'old'}</b>
    </span>
  );
}
