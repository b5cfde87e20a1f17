// Indicators: keys for which a correlation fired, with the measured value and the expiry.
import { useState } from 'preact/hooks';
import type { IndicatorInfo } from '../api.ts';
import { useSort } from '../components/sort.ts';
import { Table } from '../components/table.tsx';
import { Time } from '../components/ui.tsx';
import { count } from '../format.ts';
import { link } from '../router.ts';

interface Props {
  indicators: readonly IndicatorInfo[];
  withCluster?: boolean;
  onRevoke(key: string): void;
}

/**
 * Indicators, grouped by correlation, because a campaign has many indicators: each template has
 * many keys.
 */
export function Indicators({ indicators, withCluster = false, onRevoke }: Props) {
  const groups = Map.groupBy(
    indicators,
    ({ correlation, cluster }) => `${correlation} ${withCluster ? cluster : ''}`,
  );
  return (
    <ul class="indicator-groups">
      {[...groups].map(([name, group]) => (
        <Group
          key={name}
          indicators={group}
          withCluster={withCluster}
          isOnly={groups.size === 1}
          onRevoke={onRevoke}
        />
      ))}
    </ul>
  );
}

interface GroupProps extends Required<Props> {
  isOnly: boolean;
}

/**
 * The indicators of one correlation. If it is the only group, it is open, and it stays open when
 * groups are added.
 */
function Group({ indicators, withCluster, isOnly, onRevoke }: GroupProps) {
  const [open] = useState(isOnly);
  return (
    <li>
      <details open={open}>
        <summary>
          <GroupSummary indicators={indicators} withCluster={withCluster} />
        </summary>
        <Keys indicators={indicators} onRevoke={onRevoke} />
      </details>
    </li>
  );
}

function GroupSummary({ indicators, withCluster }: Pick<GroupProps, 'indicators' | 'withCluster'>) {
  const [{ correlation, threshold, cluster }] = indicators as [IndicatorInfo, ...IndicatorInfo[]];
  const keys = indicators.length;
  const accounts = Math.max(...indicators.map(({ accounts }) => accounts));
  const last = Math.max(...indicators.map(({ last }) => last));
  const revoked = indicators.filter(({ revoked_at }) => revoked_at !== null).length;
  return (
    <>
      <b>{correlation}</b> {keys === 1 ? '1 key' : `${count(keys)} keys`},{' '}
      largest firing with {accounts === 1 ? '1 account' : `${count(accounts)} accounts`}
      {withCluster && cluster && <>, cluster {cluster}</>}
      {revoked > 0 && `, ${count(revoked)} revoked`}, last <Time at={last * 1000} relative />
      <span class="note"> {threshold}</span>
    </>
  );
}

/** Values to sort by. */
const SORT_VALUES = {
  measured: ({ measured }: IndicatorInfo) => measured,
  accounts: ({ accounts }: IndicatorInfo) => accounts,
  first: ({ first }: IndicatorInfo) => first,
  last: ({ last }: IndicatorInfo) => last,
  expires: ({ expires, revoked_at }: IndicatorInfo) => revoked_at ?? expires,
};

function Keys({ indicators, onRevoke }: Omit<Props, 'withCluster'>) {
  const [{ correlation, cluster }] = indicators as [IndicatorInfo, ...IndicatorInfo[]];
  const { sorted, sorting } = useSort(indicators, SORT_VALUES, 'last');
  return (
    <>
      <p class="row">
        <a href={link('decisions', { signature: correlation })}>Decisions with this correlation</a>
        {cluster && <a href={link('clusters', { id: cluster })}>Cluster {cluster}</a>}
      </p>
      <Table
        label={`Keys of ${correlation}${cluster ? ` in cluster ${cluster}` : ''}`}
        class="indicators"
        sorting={sorting}
        columns={[
          'Key',
          { title: 'Measured', number: true, by: 'measured' },
          { title: 'Accounts in a firing', number: true, by: 'accounts' },
          { title: 'First', by: 'first' },
          { title: 'Last', by: 'last' },
          { title: 'Expires', by: 'expires' },
          { title: 'Action', hidden: true },
        ]}
      >
        {sorted.map((indicator) => (
          <Row key={indicator.id} indicator={indicator} onRevoke={onRevoke} />
        ))}
      </Table>
    </>
  );
}

interface RowProps {
  indicator: IndicatorInfo;
  onRevoke(key: string): void;
}

function Row({ indicator, onRevoke }: RowProps) {
  const { key, measured, times, accounts, first, last, expires, revoked_at, reason } = indicator;
  return (
    <tr class={revoked_at === null ? '' : 'revoked'}>
      <th scope="row">
        <code class="nowrap">{key}</code>
      </th>
      <td class="number">
        {measured.toLocaleString('en', { maximumFractionDigits: 1 })}
        <div class="note">fired {times === 1 ? 'once' : `${count(times)} times`}</div>
      </td>
      <td class="number">{count(accounts)}</td>
      <td class="nowrap">
        <Time at={first * 1000} relative />
      </td>
      <td class="nowrap">
        <Time at={last * 1000} relative />
      </td>
      <td class="until">
        {revoked_at === null ? (
          <Time at={expires * 1000} relative />
        ) : (
          <>
            revoked <Time at={revoked_at * 1000} relative />
            {reason && `: ${reason}`}
          </>
        )}
      </td>
      <td>
        {revoked_at === null && (
          <button
            type="button"
            class="danger"
            aria-label={`Revoke key ${key}`}
            onClick={() => onRevoke(key)}
          >
            Revoke
          </button>
        )}
      </td>
    </tr>
  );
}
