// The mode in the header of every view: whether actions are carried out, or only recorded.
import type { DeploymentStatus } from '../api.ts';
import { useActivePolicy } from '../core/active-policy.ts';
import { share } from '../format.ts';

interface Badge {
  text: string;
  /** The reason, on hover. */
  title: string;
}

/** Shows the mode. A stop and MODE_CEILING lower it. */
export function ModeBadge({ status }: { status: DeploymentStatus }) {
  const { by_mode: modes } = status.traffic;
  const total = Object.values(modes).reduce((sum, count) => sum + count, 0);
  // The policy is loaded only if requests do not show the mode.
  const policy = useActivePolicy(total ? undefined : status);
  const { text, title } =
    stopBadge(status) ?? (total ? trafficBadge(modes.enforce ?? 0, total) : policyBadge(policy));
  return (
    <span class={`mode ${text.startsWith('Enforce') ? 'is-enforce' : ''}`} title={title}>
      <span class="visually-hidden">Mode: </span>
      {text}
    </span>
  );
}

function stopBadge({ stop, mode_ceiling }: DeploymentStatus): Badge | undefined {
  if (mode_ceiling === 'shadow') {
    return { text: 'Shadow: stopped', title: 'MODE_CEILING is shadow, for all requests' };
  }
  if (!stop) return undefined;
  const { paths, reason } = stop.stop;
  const where = paths.length ? ` for ${paths.join(' ')}` : '';
  return { text: `Shadow: stopped${where && ' in part'}`, title: `stopped${where}: ${reason}` };
}

function trafficBadge(enforced: number, total: number): Badge {
  const text =
    enforced === total ? 'Enforce' : enforced ? `Enforce: ${share(enforced, total)}` : 'Shadow';
  const title = `${share(enforced, total)} of the requests of the last minute were in mode Enforce`;
  return { text, title };
}

function policyBadge(policy: ReturnType<typeof useActivePolicy>): Badge {
  if (!policy) {
    const title = 'no requests in the last minute; the policy is not loaded yet';
    return { text: 'Mode unknown', title };
  }
  const title = 'the mode of the active policy; no requests in the last minute';
  const isEnforce = (mode?: string) => mode === 'enforce';
  if (isEnforce(policy.mode)) return { text: 'Enforce', title };
  const isPartial = policy.route?.some(({ mode }) => isEnforce(mode));
  return { text: isPartial ? 'Enforce: some routes' : 'Shadow', title };
}
