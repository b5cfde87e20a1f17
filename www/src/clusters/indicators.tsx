// Keys for which a correlation holds: what was measured, against which threshold, until when.
import { useState } from 'preact/hooks';
import { Time } from '../components/parts.tsx';
import { Table } from '../components/table.tsx';
import { count } from '../format.ts';
import { link } from '../router.ts';
import type { Indicator } from './types.ts';

interface Props {
  indicators: readonly Indicator[];
  withCluster?: boolean;
  onRevoke(key: string): void;
}

/** A template has many keys, so that a campaign's are told by correlation. */
export function Indicators({ indicators, withCluster = false, onRevoke }: Props) {
  const groups = Map.groupBy(indicators, ({ correlation, cluster }) => `${correlation} ${withCluster ? cluster : ''}`);
  return (
    <ul class="indicator-groups">
      {[...groups].map(([name, own]) => (
        <Group key={name} indicators={own} withCluster={withCluster} isOnly={groups.size === 1} onRevoke={onRevoke} />
      ))}
    </ul>
  );
}

/** The only one stands open, and stays so when there are others. */
function Group({ indicators, withCluster, isOnly, onRevoke }: Required<Props> & { isOnly: boolean }) {
  const [open] = useState(isOnly);
  return (
    <li>
      <details open={open}>
        <summary>
          <Summary indicators={indicators} withCluster={withCluster} />
        </summary>
        <Keys indicators={indicators} onRevoke={onRevoke} />
      </details>
    </li>
  );
}

function Summary({ indicators, withCluster }: { indicators: readonly Indicator[]; withCluster: boolean }) {
  const [{ correlation, threshold, cluster }] = indicators as [Indicator, ...Indicator[]];
  const accounts = Math.max(...indicators.map(({ accounts }) => accounts));
  const last = Math.max(...indicators.map(({ last }) => last));
  const revoked = indicators.filter(({ revoked }) => revoked !== null).length;
  return (
    <>
      <b>{correlation}</b> {indicators.length === 1 ? '1 key' : `${count(indicators.length)} keys`}, {accounts === 1 ? '1 account' : `up to ${count(accounts)} accounts`} each
      {withCluster && cluster && <>, cluster {cluster}</>}
      {revoked > 0 && `, ${count(revoked)} revoked`}, last <Time at={last * 1000} relative />
      <span class="note"> {threshold}</span>
    </>
  );
}

function Keys({ indicators, onRevoke }: Omit<Props, 'withCluster'>) {
  const [{ correlation, cluster }] = indicators as [Indicator, ...Indicator[]];
  return (
    <>
      <p class="row">
        <a href={link('decisions', { signature: correlation })}>Decisions that it counted for</a>
        {cluster && <a href={link('clusters', { id: cluster })}>Cluster {cluster}</a>}
      </p>
      <Table
        label={`Keys of ${correlation}${cluster ? ` in cluster ${cluster}` : ''}`}
        class="indicators"
        columns={['Key', { title: 'Measured', number: true }, { title: 'Accounts', number: true }, 'First', 'Last', 'Until', { title: 'Action', hidden: true }]}
      >
        {indicators.map((indicator) => (
          <Row key={indicator.id} indicator={indicator} onRevoke={onRevoke} />
        ))}
      </Table>
    </>
  );
}

function Row({ indicator, onRevoke }: { indicator: Indicator; onRevoke(key: string): void }) {
  const { key, measured, times, accounts, first, last, expires, revoked, reason } = indicator;
  return (
    <tr class={revoked === null ? '' : 'revoked'}>
      <th scope="row">
        <code class="nowrap">{key}</code>
      </th>
      <td class="number">
        {measured.toLocaleString('en', { maximumFractionDigits: 1 })}
        <div class="note">told {times === 1 ? 'once' : `${count(times)} times`}</div>
      </td>
      <td class="number">{count(accounts)}</td>
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
