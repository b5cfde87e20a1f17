// Live updates: data is loaded again after a notification of the ledger, and also at intervals.
// Intervals are needed because the WebSocket covers only the first shard of the ledger, and because
// time ranges move on even if there are no requests.
import { useEffect, useRef, useState } from 'preact/hooks';
import { useIsFailing, useLive } from '../api.ts';
import { timeOfDay, zone } from '../time.ts';

/**
 * Returns `changes` and `seconds` for `useApi`. `changes` is increased at most once in `pause`
 * milliseconds.
 */
export function useLiveUpdates(pause = 5000): { changes: number; seconds: number; live: boolean } {
  const { tick, live } = useLive();
  const [changes, setChanges] = useState(0);
  const last = useRef(0);
  useEffect(() => {
    const delay = Math.max(0, last.current + pause - Date.now());
    const timer = setTimeout(() => {
      last.current = Date.now();
      if (!document.hidden) setChanges(tick);
    }, delay);
    return () => clearTimeout(timer);
  }, [tick, pause]);
  return { changes, live, seconds: Math.max(pause / 1000, live ? 10 : 5) };
}

interface Props {
  live: boolean;
  /** Time of the last answer, in milliseconds since the epoch. */
  at?: number;
  /** Seconds between requests. */
  seconds?: number;
}

/**
 * Shows whether the connection is live, and the time of the last answer. While any request of the
 * page fails, the connection does not count as live.
 */
export function LiveStatus({ live, at, seconds = 5 }: Props) {
  const isFailing = useIsFailing();
  const isLive = live && !isFailing;
  const title = isLive
    ? 'Counts arrive as they are reported'
    : isFailing
      ? 'The last request failed; the page tries again'
      : `No live connection: polling every ${seconds} s`;
  return (
    <>
      {at !== undefined && <AsOf at={at} seconds={seconds} />}
      <span class={`live-status ${isLive ? 'is-live' : ''}`} role="status" title={title}>
        {isLive ? 'live' : isFailing ? 'failing' : 'polling'}
      </span>
    </>
  );
}

/**
 * Shows the time of the last answer, and marks it as outdated after two polls without an answer.
 */
function AsOf({ at, seconds }: { at: number; seconds: number }) {
  const [, render] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => render(Date.now()), 2000);
    return () => clearInterval(timer);
  }, []);
  const isOutdated = Date.now() - at > 2000 * seconds + 1000;
  return (
    <span class={`as-of ${isOutdated ? 'is-outdated' : ''}`}>
      as of {timeOfDay(at, 'second')} {zone(at)}{' '}
      <b>{isOutdated && 'old'}</b>
    </span>
  );
}
