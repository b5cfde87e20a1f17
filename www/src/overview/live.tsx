// What is shown is asked for again when the ledger was told something; where there is no connection, every few seconds.
import { useEffect, useRef, useState } from 'preact/hooks';
import { useLive } from '../api.ts';

/** `changes` and `seconds` are for `useApi`: at most one question in `pause` milliseconds. */
export function useChanges(pause = 2000): { changes: number; seconds: number; live: boolean } {
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
  // Time goes on without requests, too: the range moves.
  return { changes, live, seconds: live ? 30 : 5 };
}

export function LiveState({ live }: { live: boolean }) {
  return (
    <span class={`live-state ${live ? 'is-live' : ''}`} role="status" title={live ? 'Counts come as they are reported' : 'No live connection: asked again every 5 s'}>
      {live ? 'live' : 'polling'}
    </span>
  );
}
