// The policy of the active bundle, as far as the console shows it.
import { useEffect, useState } from 'preact/hooks';
import { call, type DeploymentStatus, type SignedBundle } from '../api.ts';
import { shippedBundle } from './core.ts';

/** Members of a policy. */
export interface ActivePolicy {
  mode?: string;
  route?: { mode?: string }[];
  bands?: { notice: number; suspect: number; hostile: number };
}

/** Policies by digest of their bundle, or by `embedded`. */
const policies = new Map<string, Promise<ActivePolicy>>();

/** Loads the policy of a bundle, once. A failed attempt is repeated by the next call. */
function loadPolicy(digest: string): Promise<ActivePolicy> {
  const load = async () => {
    const isEmbedded = digest === 'embedded';
    const bundle = isEmbedded
      ? await shippedBundle()
      : (await call<SignedBundle>(`/bundles/${digest}`)).bundle;
    return (JSON.parse(bundle) as { policy: ActivePolicy }).policy;
  };
  const policy = policies.get(digest) ?? load();
  policies.set(digest, policy);
  policy.catch(() => policies.delete(digest));
  return policy;
}

/**
 * Loads the policy of the active bundle, and tries again with each new status if that failed.
 * Returns undefined until it is loaded, and without a status.
 */
export function useActivePolicy(status: DeploymentStatus | undefined): ActivePolicy | undefined {
  const active = status && (status.release ? status.release.release?.active : 'embedded');
  const [loaded, setLoaded] = useState<{ active: string; policy: ActivePolicy }>();
  const isLoaded = loaded?.active === active;
  useEffect(() => {
    if (!active || isLoaded) return;
    let isCurrent = true;
    const set = (policy: ActivePolicy) => isCurrent && setLoaded({ active, policy });
    loadPolicy(active).then(set, () => {});
    return () => {
      isCurrent = false;
    };
  }, [active, isLoaded, status]);
  return isLoaded ? loaded?.policy : undefined;
}
