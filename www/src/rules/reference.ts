// What edited rules are compared with: what is released, where a token opens that; else what was shipped. It is asked for
// again and again, for colleagues release, too.
import { useEffect, useState } from 'preact/hooks';
import { type Release, useApi } from '../api.ts';
import { shippedBundle } from '../core/core.ts';
import { brief } from '../format.ts';
import { useToken } from '../session.ts';

export interface Reference {
  /** Null while it is loaded. */
  bundle: string | null;
  /** What this console was built with; null while it is loaded. */
  shipped: string | null;
  /** In words. */
  what: string;
  /** The newest release, of serial zero before the first; null where it is not known. */
  newest: { serial: number; release: Release['release'] | null } | null;
  reload(): void;
}

const PACE = 30;

export function useReference(): Reference {
  const own = useToken();
  const shipped = useShippedBundle();
  const { reload, ...asked } = useApi<{ releases: Release[] }>(own ? '/releases?limit=1' : null, PACE);
  const releases = asked.state === 'loading' ? undefined : asked.data?.releases;
  const release = releases?.[0]?.release ?? null;
  const active = release && release.active !== 'embedded' ? release.active : null;
  const stored = useApi<{ digest: string; bundle: string }>(active && `/bundles/${active}`);
  const found = stored.state !== 'loading' && stored.data?.digest === active ? stored.data : null;
  const none = { shipped, newest: null, reload };
  if (!own) return { ...none, bundle: shipped, what: 'the shipped rules' };
  const isUnknown = asked.state !== 'loading' && (!releases || (active !== null && !found && stored.state === 'failed'));
  if (isUnknown) return { ...none, bundle: shipped, what: 'the shipped rules, for what is released could not be read' };
  if (!releases || (active && !found)) return { ...none, bundle: null, what: 'what is released' };
  const newest = { serial: release?.serial ?? 0, release };
  if (!found) return { shipped, newest, reload, bundle: shipped, what: release ? `the shipped rules, which ${since(release)} put in force` : 'the shipped rules, which are in force' };
  return { shipped, newest, reload, bundle: found.bundle, what: `${since(release!)} (bundle ${brief(found.digest)})` };
}

const since = ({ serial, created }: Release['release']) => `release ${serial} of ${new Date(created * 1000).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })}`;

function useShippedBundle(): string | null {
  const [bundle, set] = useState<string | null>(null);
  useEffect(() => {
    // The files come from the same place, and their view says what is wrong there.
    shippedBundle().then(set, () => undefined);
  }, []);
  return bundle;
}
