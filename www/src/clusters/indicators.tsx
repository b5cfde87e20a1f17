// Keys for which a correlation holds: what was measured, against which threshold, until when.
import { Time } from '../components/parts.tsx';
import { count } from '../format.ts';
import { link } from '../router.ts';
import type { Indicator } from './types.ts';

export function Indicators({ indicators, withCluster = false, onRevoke }: { indicators: readonly Indicator[]; withCluster?: boolean; onRevoke(key: string): void }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Table of indicators">
      <table class="indicators">
        <thead>
          <tr>
            <th scope="col">Correlation and threshold</th>
            <th scope="col">Key</th>
            <th scope="col" class="number">
              Measured
            </th>
            <th scope="col" class="number">
              Accounts
            </th>
            {withCluster && <th scope="col">Cluster</th>}
            <th scope="col">First</th>
            <th scope="col">Last</th>
            <th scope="col">Until</th>
            <th scope="col">
              <span class="visually-hidden">Action</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {indicators.map((indicator) => (
            <Row key={indicator.id} indicator={indicator} withCluster={withCluster} onRevoke={onRevoke} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ indicator, withCluster, onRevoke }: { indicator: Indicator; withCluster: boolean; onRevoke(key: string): void }) {
  const { correlation, threshold, key, measured, times, accounts, cluster, first, last, expires, revoked, reason } = indicator;
  return (
    <tr class={revoked === null ? '' : 'revoked'}>
      <th scope="row">
        <a href={link('decisions', { signature: correlation })}>{correlation}</a>
        <div class="note">{threshold}</div>
      </th>
      <td>
        <code class="nowrap">{key}</code>
      </td>
      <td class="number">
        {measured.toLocaleString('en', { maximumFractionDigits: 1 })}
        <div class="note">told {times === 1 ? 'once' : `${count(times)} times`}</div>
      </td>
      <td class="number">{count(accounts)}</td>
      {withCluster && <td>{cluster ? <a href={link('clusters', { id: cluster })}>{cluster}</a> : '–'}</td>}
      <td class="nowrap">
        <Time at={first * 1000} relative />
      </td>
      <td class="nowrap">
        <Time at={last * 1000} relative />
      </td>
      <td class="until">
        {revoked === null ? (
          <Time at={expires * 1000} relative />
        ) : (
          <>
            revoked <Time at={revoked * 1000} relative />
            {reason && `: ${reason}`}
          </>
        )}
      </td>
      <td>
        {revoked === null && (
          <button type="button" class="danger" aria-label={`Revoke key ${key}`} onClick={() => onRevoke(key)}>
            Revoke
          </button>
        )}
      </td>
    </tr>
  );
}
