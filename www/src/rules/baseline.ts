// The baseline with which edited rules are compared: the released rules if they can be loaded,
// otherwise the shipped rules. The baseline is polled, because other people may publish a release.
import { useEffect, useState } from 'preact/hooks';
import { type Release, type ReleaseList, type SignedBundle, useApi } from '../api.ts';
import { shippedBundle } from '../core/core.ts';
import { brief } from '../format.ts';
import { useToken } from '../session.ts';
import { formatZoned } from '../time.ts';

export interface Baseline {
  /** Text of the baseline; null while it is loading. */
  bundle: string | null;
  /** Bundle that this console was built with; null while it is loading. */
  shipped: string | null;
  /** Describes the baseline. */
  description: string;
  /**
   * The newest release. Its serial is 0 if nothing was released. Null if the release is unknown.
   */
  newest: { serial: number; release: Release | null } | null;
  reload(): void;
}

/** Seconds between polls. */
const POLL_INTERVAL = 30;

export function useBaseline(): Baseline {
  const token = useToken();
  const shipped = useShippedBundle();
  const { reload, ...latest } = useApi<ReleaseList>(
    token ? '/releases?limit=1' : null,
    POLL_INTERVAL,
  );
  const releases = latest.state === 'loading' ? undefined : latest.data?.releases;
  const release = releases?.[0]?.release ?? null;
  const active = release && release.active !== 'embedded' ? release.active : null;
  const stored = useApi<SignedBundle>(active && `/bundles/${active}`);
  const isStored = stored.state !== 'loading' && stored.data?.digest === active;
  const released = isStored ? stored.data! : null;

  const common = { shipped, newest: null, reload };
  if (!token) return { ...common, bundle: shipped, description: 'the shipped rules' };
  const isBundleMissing = active !== null && !released && stored.state === 'failed';
  const isUnreadable = !releases || releases[0]?.release === null || isBundleMissing;
  if (latest.state !== 'loading' && isUnreadable) {
    const description = 'the shipped rules, because the released rules could not be loaded';
    return { ...common, bundle: shipped, description };
  }
  if (!releases || (active && !released)) {
    return { ...common, bundle: null, description: 'the released rules' };
  }
  const newest = { serial: release?.serial ?? 0, release };
  if (released && release) {
    const description = `${formatRelease(release)} (bundle ${brief(released.digest)})`;
    return { shipped, newest, reload, bundle: released.bundle, description };
  }
  const description = release
    ? `the shipped rules, which have been active since ${formatRelease(release)}`
    : 'the shipped rules, which are active';
  return { shipped, newest, reload, bundle: shipped, description };
}

const formatRelease = ({ serial, created }: Release) =>
  `release ${serial} of ${formatZoned(1000 * created, 'minute')}`;

function useShippedBundle(): string | null {
  const [bundle, setBundle] = useState<string | null>(null);
  useEffect(() => {
    // Ignores an error, because the rule files come from the same server and the view shows the
    // error of loading them.
    shippedBundle().then(setBundle, () => undefined);
  }, []);
  return bundle;
}
