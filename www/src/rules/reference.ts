// What edited rules are compared with: what is released, where a token opens that; else what was shipped.
import { useEffect, useState } from 'preact/hooks';
import { type Release, useApi } from '../api.ts';
import { shippedBundle } from '../core/core.ts';
import { brief } from '../format.ts';
import { useToken } from '../session.ts';

export interface Reference {
  /** Null while it is loaded. */
  bundle: string | null;
  /** In words. */
  what: string;
  reload(): void;
}

export function useReference(): Reference {
  const own = useToken();
  const shipped = useShippedBundle();
  const { reload, ...release } = useApi<{ releases: Release[] }>(own ? '/releases?limit=1' : null);
  const newest = own && release.state === 'ready' ? release.data.releases[0]?.release.active : undefined;
  const active = newest && newest !== 'embedded' ? newest : null;
  const released = useApi<{ bundle: string }>(active && `/bundles/${active}`);
  if (!own) return { bundle: shipped, what: 'the shipped rules', reload };
  if (release.state === 'loading' || (active && released.state === 'loading')) return { bundle: null, what: 'what is released', reload };
  if (active && released.state === 'ready') return { bundle: released.data.bundle, what: `bundle ${brief(active)}, which is released`, reload };
  const isUnknown = active !== null || release.state === 'failed';
  return { bundle: shipped, what: isUnknown ? 'the shipped rules, for what is released could not be read' : 'the shipped rules, which are in force', reload };
}

function useShippedBundle(): string | null {
  const [bundle, set] = useState<string | null>(null);
  useEffect(() => {
    // The files come from the same place, and their view says what is wrong there.
    shippedBundle().then(set, () => undefined);
  }, []);
  return bundle;
}
