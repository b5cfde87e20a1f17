// All clusters, all indicators, and the log of revocations.
import { useMemo, useRef, useState } from 'preact/hooks';
import {
  type AuditEntry,
  type AuditLog,
  type Band,
  BANDS,
  type ClusterInfo,
  type ClusterList,
  type IndicatorList,
  useApi,
} from '../api.ts';
import { Async, Empty } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { BandBar, BandTag, Panel, Time } from '../components/ui.tsx';
import { count, share } from '../format.ts';
import { link, navigate } from '../router.ts';
import { growth } from './growth.ts';
import { Indicators } from './indicators.tsx';
import { RevokeDialog } from './revoke-dialog.tsx';

export function ClusterList() {
  const clusters = useApi<ClusterList>('/clusters', 15);
  const initialAccounts = useRef(new Map<string, number>());
  const newAccounts = ({ id, accounts }: ClusterInfo) => {
    const initial = initialAccounts.current;
    if (!initial.has(id)) initial.set(id, accounts);
    return accounts - initial.get(id)!;
  };
  const isLedgerDown =
    clusters.state === 'ready' && clusters.data.clusters.some(({ traffic }) => !traffic);
  return (
    <Panel title="Clusters" note="last seen first; requests of the last 24 h">
      {isLedgerDown && (
        <p class="problem" role="alert">
          The ledger does not answer, so requests, bands and models are missing here. Requests are
          still decided and correlated; this page tries again.
        </p>
      )}
      <Async loaded={clusters} lines={6}>
        {({ clusters }) =>
          clusters.length ? (
            <Table
              label="Table of clusters"
              class="clusters"
              columns={[
                'Cluster',
                'Accounts',
                { title: 'Keys', number: true },
                'Correlations',
                { title: 'Requests', number: true },
                'Bands',
                'Models',
                'Last seen',
              ]}
            >
              {clusters.map((cluster) => (
                <Row key={cluster.id} cluster={cluster} newAccounts={newAccounts(cluster)} />
              ))}
            </Table>
          ) : (
            <NoClusters />
          )
        }
      </Async>
    </Panel>
  );
}

interface RowProps {
  cluster: ClusterInfo;
  /** Number of accounts that joined since the page was opened. */
  newAccounts: number;
}

function Row({ cluster, newAccounts }: RowProps) {
  const { id, aliases, accounts, keys, correlations, last, traffic } = cluster;
  return (
    <tr>
      <th scope="row">
        <a href={link('clusters', { id })}>{id}</a>
        {aliases.length > 0 && (
          <span class="note" title={aliases.join(', ')}>
            {' '}
            and {count(aliases.length)} merged
          </span>
        )}
      </th>
      <td>
        <b>{count(accounts)}</b>{' '}
        <span class="note">
          in {growth(cluster)}
          {newAccounts > 0 && `, ▲ ${count(newAccounts)} since you opened this page`}
        </span>
      </td>
      <td class="number">{count(keys)}</td>
      <td class="names">{correlations.join(', ')}</td>
      <td class="number">{traffic ? count(traffic.requests) : 'unknown'}</td>
      <td class="bands">
        <Bands traffic={traffic} />
      </td>
      <td class="names">{Object.keys(traffic?.by_model ?? {}).join(', ') || '–'}</td>
      <td class="nowrap">
        <Time at={last * 1000} relative />
      </td>
    </tr>
  );
}

/** The share of each band, and the most frequent band. */
function Bands({ traffic }: Pick<ClusterInfo, 'traffic'>) {
  if (!traffic?.requests) return <>–</>;
  const bands = traffic.by_band;
  const top = BANDS.toSorted((a, b) => (bands[b] ?? 0) - (bands[a] ?? 0))[0] as Band;
  return (
    <>
      <BandBar bands={bands} />{' '}
      <span class="nowrap">
        <BandTag band={top} /> {share(bands[top] ?? 0, traffic.requests)}
      </span>
    </>
  );
}

function NoClusters() {
  return (
    <Empty>
      <p>There are no clusters yet.</p>
      <p>
        A cluster consists of accounts that share keys (a template, a reasoning token, an address)
        for which a correlation has fired. Correlations detect what many requests share and no
        single request shows. <code>npm run demo</code> sends a campaign that forms a cluster.
      </p>
    </Empty>
  );
}

const PAGE = 50;
/** The API returns at most this number of indicators. */
const MAX_INDICATORS = 500;

export function AllIndicators({ correlation }: { correlation: string }) {
  const [limit, setLimit] = useState(PAGE);
  const [keyToRevoke, setKeyToRevoke] = useState<string>();
  const query = new URLSearchParams({ limit: String(limit), ...(correlation && { correlation }) });
  const loaded = useApi<IndicatorList>(`/indicators?${query}`, 15);
  // Memoised, so that an update does not reset the input while the user types.
  const filter = useMemo(() => <Filter correlation={correlation} />, [correlation]);
  return (
    <Panel title="Indicators" note="newest first" end={filter}>
      <Async loaded={loaded} lines={8}>
        {({ indicators }) =>
          indicators.length ? (
            <>
              <Indicators indicators={indicators} withCluster onRevoke={setKeyToRevoke} />
              {indicators.length === limit && limit < MAX_INDICATORS && (
                <button type="button" class="quiet" onClick={() => setLimit(MAX_INDICATORS)}>
                  Show older indicators
                </button>
              )}
            </>
          ) : (
            <NoIndicators correlation={correlation} />
          )
        }
      </Async>
      {keyToRevoke && (
        <RevokeDialog
          keys={[keyToRevoke]}
          onClose={(changed) => {
            setKeyToRevoke(undefined);
            if (changed) loaded.reload();
          }}
        />
      )}
    </Panel>
  );
}

const NoIndicators = ({ correlation }: { correlation: string }) => (
  <Empty>
    {correlation
      ? 'This correlation has no active indicators. Check its name; the view Rules lists all names.'
      : 'No correlation has fired yet.'}
  </Empty>
);

const Filter = ({ correlation }: { correlation: string }) => (
  <label class="row">
    Correlation
    <input
      value={correlation}
      placeholder="any"
      autocomplete="off"
      spellcheck={false}
      onChange={(event) => navigate('clusters', { correlation: event.currentTarget.value.trim() })}
    />
  </label>
);

export function Revocations() {
  const log = useApi<AuditLog>('/audit?limit=500', 15);
  return (
    <Panel title="Revocations" note="among the last 500 entries of the audit log">
      <Async loaded={log} lines={3}>
        {({ entries }) => (
          <Entries entries={entries.filter(({ action }) => action.startsWith('indicator'))} />
        )}
      </Async>
    </Panel>
  );
}

function Entries({ entries }: { entries: readonly AuditEntry[] }) {
  if (!entries.length) return <Empty>No indicator was revoked.</Empty>;
  return (
    <Table
      label="Table of revocations"
      class="revocations"
      columns={['Time', 'Author', 'Key and reason', 'Result']}
    >
      {entries.map(({ id, at, actor, author, subject, result }) => (
        <tr key={id}>
          <td class="nowrap">
            <Time at={at * 1000} />
          </td>
          <td class="names">
            {author || 'not given'} <span class="note">with the {actor} token</span>
          </td>
          <td class="names">{subject}</td>
          <td>{result}</td>
        </tr>
      ))}
    </Table>
  );
}
