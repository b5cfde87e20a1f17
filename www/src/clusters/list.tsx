// All clusters, all indicators, and the log of revocations.
import { useMemo, useRef, useState } from 'preact/hooks';
import {
  type AuditEntry,
  type AuditLog,
  type Band,
  BANDS,
  type ClusterInfo,
  type ClusterList,
  type DeploymentStatus,
  type IndicatorList,
  latest,
  useApi,
} from '../api.ts';
import { Async, Empty } from '../components/async-states.tsx';
import { useSort } from '../components/sort.ts';
import { Table } from '../components/table.tsx';
import { BandBar, BandTag, Panel, Time } from '../components/ui.tsx';
import { similar } from '../decisions/known.ts';
import { count, share } from '../format.ts';
import { link, navigate } from '../router.ts';
import { gravity, linkCount } from './gravity.ts';
import { growth } from './growth.ts';
import { Indicators } from './indicators.tsx';
import { RevokeDialog } from './revoke-dialog.tsx';

/** Values to sort by. */
const SORT_VALUES = {
  gravity: (cluster: ClusterInfo) => gravity(cluster),
  id: ({ id }: ClusterInfo) => id,
  accounts: ({ accounts }: ClusterInfo) => accounts,
  links: ({ keys }: ClusterInfo) => keys,
  requests: ({ traffic }: ClusterInfo) => traffic?.requests,
  last: ({ last }: ClusterInfo) => last,
};

export function ClusterList() {
  const clusters = useApi<ClusterList>('/clusters', 15);
  const initialAccounts = useRef(new Map<string, number>());
  const newAccounts = ({ id, accounts }: ClusterInfo) => {
    const initial = initialAccounts.current;
    if (!initial.has(id)) initial.set(id, accounts);
    return accounts - initial.get(id)!;
  };
  const { sorted, sorting } = useSort(latest(clusters)?.clusters ?? NONE, SORT_VALUES, 'gravity');
  const isLedgerDown = clusters.state === 'ready' && sorted.some(({ traffic }) => !traffic);
  return (
    <Panel title="Clusters" note="requests of the last 24 h; gravity: see below">
      {isLedgerDown && (
        <p class="problem" role="alert">
          The ledger does not answer, so requests, bands and models are missing here. Requests are
          still decided and correlated; this page tries again.
        </p>
      )}
      <Async loaded={clusters} lines={6}>
        {() =>
          sorted.length ? (
            <>
              <Table
                label="Table of clusters"
                class="clusters"
                sorting={sorting}
                columns={[
                  { title: 'Cluster', by: 'id' },
                  { title: 'Gravity', number: true, by: 'gravity' },
                  { title: 'Linked accounts', by: 'accounts' },
                  { title: 'Links', number: true, by: 'links' },
                  'Correlations',
                  { title: 'Requests', number: true, by: 'requests' },
                  'Bands',
                  'Models',
                  { title: 'Last seen', by: 'last' },
                ]}
              >
                {sorted.map((cluster) => (
                  <Row key={cluster.id} cluster={cluster} newAccounts={newAccounts(cluster)} />
                ))}
              </Table>
              <p class="note">
                Gravity grows by 3 points with each doubling of the accounts, and of the suspect and
                hostile requests (hostile ones count twice); it falls by 3 points a day after the
                last firing. A link is a pair of a key and a correlation; at most 64 are counted.
              </p>
            </>
          ) : (
            <NoClusters />
          )
        }
      </Async>
    </Panel>
  );
}

const NONE: readonly ClusterInfo[] = [];

interface RowProps {
  cluster: ClusterInfo;
  /** Number of accounts that joined since the page was opened. */
  newAccounts: number;
}

function Row({ cluster, newAccounts }: RowProps) {
  const { id, aliases, accounts, correlations, last, traffic } = cluster;
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
      <td class="number">{Math.round(gravity(cluster))}</td>
      <td>
        <b>{count(accounts)}</b>{' '}
        <span class="note">
          in {growth(cluster)}
          {newAccounts > 0 && `, ▲ ${count(newAccounts)} since you opened this page`}
        </span>
      </td>
      <td class="number">{linkCount(cluster)}</td>
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
  const names = Object.keys(
    latest(useApi<DeploymentStatus>('/status'))?.indicators.by_correlation ?? {},
  );
  const list = latest(loaded);
  const note = list && `${count(list.indicators.length)} of ${count(list.total)}, newest first`;
  return (
    <Panel title="Indicators" note={note} end={filter}>
      <datalist id="correlations">
        {names.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
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
            <NoIndicators correlation={correlation} names={names} />
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

interface NoIndicatorsProps {
  correlation: string;
  /** Names of the correlations that have indicators. */
  names: readonly string[];
}

const NoIndicators = ({ correlation, names }: NoIndicatorsProps) => (
  <Empty>
    {correlation
      ? `No indicator is of a correlation named “${correlation}”. `
      : 'No correlation has fired yet.'}
    {correlation &&
      similar(correlation, names).map((name) => (
        <p key={name}>
          Did you mean <a href={link('clusters', { correlation: name })}>{name}</a>?
        </p>
      ))}
  </Empty>
);

const Filter = ({ correlation }: { correlation: string }) => (
  <label class="row">
    Correlation
    <input
      value={correlation}
      placeholder="any"
      list="correlations"
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
