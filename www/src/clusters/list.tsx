// All clusters, all indicators, and who revoked what.
import { useMemo, useRef, useState } from 'preact/hooks';
import { type Band, BANDS, useApi } from '../api.ts';
import { BandBar, BandTag, Panel, Time } from '../components/parts.tsx';
import { Empty, Shown } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { count, share } from '../format.ts';
import { go, link } from '../router.ts';
import { growth } from './growth.ts';
import { Indicators } from './indicators.tsx';
import { Revoke } from './revoke.tsx';
import type { AuditEntry, Cluster, Indicator } from './types.ts';

export function ClusterList() {
  const clusters = useApi<{ clusters: Cluster[] }>('/clusters', 15);
  const before = useRef(new Map<string, number>());
  const grown = ({ id, accounts }: Cluster) => {
    if (!before.current.has(id)) before.current.set(id, accounts);
    return accounts - before.current.get(id)!;
  };
  const silent = clusters.state === 'ready' && clusters.data.clusters.some(({ traffic }) => !traffic);
  return (
    <Panel title="Clusters" note="last seen first; requests of the last 24 h">
      {silent && (
        <p class="problem" role="alert">
          The ledger does not answer, so requests, bands and models are missing here. Traffic is decided and counted all the same; this page tries again.
        </p>
      )}
      <Shown loaded={clusters} lines={6}>
        {({ clusters }) =>
          clusters.length ? (
            <Table
              label="Table of clusters"
              class="clusters"
              columns={['Cluster', 'Accounts', { title: 'Keys', number: true }, 'Correlations', { title: 'Requests', number: true }, 'Bands', 'Models', 'Last seen']}
            >
              {clusters.map((cluster) => (
                <Row key={cluster.id} cluster={cluster} grown={grown(cluster)} />
              ))}
            </Table>
          ) : (
            <NoClusters />
          )
        }
      </Shown>
    </Panel>
  );
}

function Row({ cluster, grown }: { cluster: Cluster; grown: number }) {
  const { id, accounts, keys, correlations, last, traffic } = cluster;
  const bands = traffic?.by_band ?? {};
  const most = BANDS.toSorted((a, b) => (bands[b] ?? 0) - (bands[a] ?? 0))[0] as Band;
  return (
    <tr>
      <th scope="row">
        <a href={link('clusters', { id })}>{id}</a>
      </th>
      <td>
        <b>{count(accounts)}</b> <span class="note">in {growth(cluster)}{grown > 0 && `, ▲ ${count(grown)} since you opened this page`}</span>
      </td>
      <td class="number">{count(keys)}</td>
      <td class="names">{correlations.join(', ')}</td>
      <td class="number">{traffic ? count(traffic.requests) : 'unknown'}</td>
      <td class="bands">
        {traffic && traffic.requests > 0 ? (
          <>
            <BandBar bands={bands} /> <span class="nowrap"><BandTag band={most} /> {share(bands[most] ?? 0, traffic.requests)}</span>
          </>
        ) : (
          '–'
        )}
      </td>
      <td class="names">{Object.keys(traffic?.by_model ?? {}).join(', ') || '–'}</td>
      <td class="nowrap">
        <Time at={last * 1000} relative />
      </td>
    </tr>
  );
}

function NoClusters() {
  return (
    <Empty>
      <p>There is no cluster yet.</p>
      <p>
        A cluster is made of accounts that share keys (a template, a reasoning token, an address) for which a correlation holds: what many requests have in common, and none of them shows alone.
        <code> npm run demo</code> sends a campaign that makes one.
      </p>
    </Empty>
  );
}

const STEP = 50;
const MOST = 500;

export function AllIndicators({ correlation }: { correlation: string }) {
  const [limit, setLimit] = useState(STEP);
  const [key, revoke] = useState<string>();
  const query = new URLSearchParams({ limit: String(limit), ...(correlation && { correlation }) });
  const loaded = useApi<{ indicators: Indicator[] }>(`/indicators?${query}`, 15);
  // Kept as it is, so that asking again takes nothing away that is being typed.
  const filter = useMemo(() => <Filter correlation={correlation} />, [correlation]);
  return (
    <Panel title="Indicators" note="newest first" end={filter}>
      <Shown loaded={loaded} lines={8}>
        {({ indicators }) =>
          indicators.length ? (
            <>
              <Indicators indicators={indicators} withCluster onRevoke={revoke} />
              {indicators.length === limit && limit < MOST && (
                <button type="button" class="quiet" onClick={() => setLimit(MOST)}>
                  Show older ones, too
                </button>
              )}
            </>
          ) : (
            <Empty>{correlation ? 'No indicator of this correlation is in force. Its name may be misspelt; the rules have all names.' : 'No correlation holds for any key yet.'}</Empty>
          )
        }
      </Shown>
      {key && (
        <Revoke
          keys={[key]}
          onClose={(changed) => {
            revoke(undefined);
            if (changed) loaded.reload();
          }}
        />
      )}
    </Panel>
  );
}

const Filter = ({ correlation }: { correlation: string }) => (
  <label class="row">
    Correlation
    <input value={correlation} placeholder="any" autocomplete="off" spellcheck={false} onChange={(event) => go('clusters', { correlation: event.currentTarget.value.trim() })} />
  </label>
);

export function Revocations() {
  const log = useApi<{ entries: AuditEntry[] }>('/audit?limit=500', 15);
  return (
    <Panel title="Revoked" note="of the audit log’s last 500 entries">
      <Shown loaded={log} lines={3}>
        {({ entries }) => <Entries entries={entries.filter(({ what }) => what.startsWith('indicator'))} />}
      </Shown>
    </Panel>
  );
}

function Entries({ entries }: { entries: readonly AuditEntry[] }) {
  if (!entries.length) return <Empty>Nobody has revoked an indicator.</Empty>;
  return (
    <Table label="Table of revocations" class="revocations" columns={['When', 'Who', 'Key and reason', 'Result']}>
      {entries.map(({ id, at, who, author, subject, result }) => (
        <tr key={id}>
          <td class="nowrap">
            <Time at={at * 1000} />
          </td>
          <td class="names">{author || 'nobody named'} <span class="note">with the {who} token</span></td>
          <td class="names">{subject}</td>
          <td>{result}</td>
        </tr>
      ))}
    </Table>
  );
}
