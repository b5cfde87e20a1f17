// The view of a cluster: its accounts, requests and indicators, and actions such as revoking its
// indicators.
import { useState } from 'preact/hooks';
import {
  BANDS,
  type ClusterDetails,
  type ClusterList,
  type IndicatorList,
  latest,
  useApi,
} from '../api.ts';
import { Async, Empty } from '../components/async-states.tsx';
import { BandBar, BandTag, Copy, Panel, Time } from '../components/ui.tsx';
import { similar } from '../decisions/known.ts';
import { count, share } from '../format.ts';
import { ExemptMembers } from '../policy/exempt-dialog.tsx';
import { addressOf, link } from '../router.ts';
import { linkCount } from './gravity.ts';
import { growth } from './growth.ts';
import { Indicators } from './indicators.tsx';
import { RevokeDialog } from './revoke-dialog.tsx';
import { Timeline } from './timeline.tsx';

export function ClusterDetail({ id }: { id: string }) {
  const name = encodeURIComponent(id);
  const cluster = useApi<ClusterDetails>(`/clusters/${name}`, 15);
  const indicators = useApi<IndicatorList>(
    `/indicators?cluster=${name}&limit=500`,
    15,
  );
  const [keysToRevoke, setKeysToRevoke] = useState<readonly string[]>();
  const [revokesCluster, setRevokesCluster] = useState(false);
  const [isExempting, setIsExempting] = useState(false);
  const loadedIndicators = indicators.state === 'ready' ? indicators.data.indicators : [];
  const active = loadedIndicators.filter(({ revoked_at }) => revoked_at === null);
  const keys = [...new Set(active.map(({ key }) => key))];
  const ids = cluster.state === 'ready' ? [cluster.data.id, ...cluster.data.aliases] : [id];
  const total = latest(indicators)?.total;
  const note =
    total !== undefined &&
    `${count(loadedIndicators.length)} of ${count(total)}; keys are keyed hashes, which do not ` +
      'reveal the hashed values';
  const closeRevoke = (changed: boolean) => {
    setKeysToRevoke(undefined);
    setRevokesCluster(false);
    if (!changed) return;
    cluster.reload();
    indicators.reload();
  };
  return (
    <>
      <div class="row actions">
        <a class="button" href={link('decisions', { cluster: ids.join(',') })}>
          Decisions of this cluster
        </a>
        <Copy text={addressOf(link('clusters', { id }))} label="Copy link" />
        <button
          type="button"
          disabled={cluster.state !== 'ready'}
          onClick={() => setIsExempting(true)}
        >
          Exempt…
        </button>
        <button
          type="button"
          class="danger"
          disabled={keys.length === 0}
          onClick={() => {
            setRevokesCluster(true);
            setKeysToRevoke(keys);
          }}
        >
          Revoke all indicators…
        </button>
      </div>
      <div class="grid">
        {cluster.state === 'failed' && cluster.error.status === 404 && <Similar id={id} />}
        <Async loaded={cluster} lines={8}>
          {(data) => (
            <>
              <Panel title="Members" class="half">
                <Members cluster={data} />
              </Panel>
              <Panel title="Requests" note="in the last 24 h" class="half">
                <Requests traffic={data.traffic} />
              </Panel>
            </>
          )}
        </Async>
        <Panel title="Indicators of this cluster" note={note}>
          <Async loaded={indicators} lines={8}>
            {({ indicators }) =>
              indicators.length ? (
                <>
                  <Timeline indicators={indicators} />
                  <Indicators indicators={indicators} onRevoke={(key) => setKeysToRevoke([key])} />
                </>
              ) : (
                <ExpiredLinks cluster={cluster} />
              )
            }
          </Async>
        </Panel>
      </div>
      {keysToRevoke && (
        <RevokeDialog
          keys={keysToRevoke}
          {...(revokesCluster && { cluster: id })}
          onClose={closeRevoke}
        />
      )}
      {isExempting && (
        <ExemptMembers
          ids={ids}
          accounts={latest(cluster)?.accounts}
          onClose={() => setIsExempting(false)}
        />
      )}
    </>
  );
}

function Members({ cluster }: { cluster: ClusterDetails }) {
  const { accounts, aliases, correlations, first, last } = cluster;
  return (
    <dl class="facts">
      <dt>Id</dt>
      <dd>{cluster.id}</dd>
      {aliases.length > 0 && (
        <>
          <dt>Former ids of clusters that merged into it</dt>
          <dd>{aliases.join(', ')}</dd>
        </>
      )}
      <dt>Linked accounts</dt>
      <dd>
        <b>{count(accounts)}</b>, within {growth(cluster)}
        <span class="note">; those that joined after the last firing are not counted yet</span>
      </dd>
      <dt>Links</dt>
      <dd>
        {linkCount(cluster)} <span class="note">pairs of a key and a correlation</span>
      </dd>
      <dt>Correlations</dt>
      <dd>{correlations.join(', ')}</dd>
      <dt>First seen</dt>
      <dd>
        <Time at={first * 1000} />
      </dd>
      <dt>Last seen</dt>
      <dd>
        <Time at={last * 1000} />
      </dd>
    </dl>
  );
}

function Requests({ traffic }: { traffic: ClusterDetails['traffic'] }) {
  if (!traffic) {
    return (
      <Empty>
        The ledger does not answer, so the requests of the cluster are unknown. This page tries
        again.
      </Empty>
    );
  }
  if (!traffic.requests) return <Empty>No requests in the last 24 h.</Empty>;
  const models = Object.entries(traffic.by_model).toSorted(([, a], [, b]) => b - a);
  return (
    <>
      <BandBar bands={traffic.by_band} />
      <ul class="shares">
        {BANDS.filter((band) => traffic.by_band[band]).map((band) => (
          <li key={band}>
            <BandTag band={band} /> {count(traffic.by_band[band]!)}{' '}
            <span class="note">{share(traffic.by_band[band]!, traffic.requests)}</span>
          </li>
        ))}
      </ul>
      <h3>Models</h3>
      <ul class="shares">
        {models.map(([model, requests]) => (
          <li key={model}>
            <a href={link('decisions', { model })}>{model}</a> {count(requests)}{' '}
            <span class="note">{share(requests, traffic.requests)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Clusters whose ids are similar to an id that is unknown, such as its first digits. */
function Similar({ id }: { id: string }) {
  const list = latest(useApi<ClusterList>('/clusters'));
  const ids = list?.clusters.flatMap(({ id, aliases }) => [id, ...aliases]) ?? [];
  const found = similar(id, ids);
  if (!found.length) return null;
  return (
    <p>
      Did you mean{' '}
      {found.map((id) => (
        <a key={id} href={link('clusters', { id })}>
          {id}{' '}
        </a>
      ))}
      ?
    </p>
  );
}

/** The keys of a cluster whose indicators have all expired. */
function ExpiredLinks({ cluster }: { cluster: ReturnType<typeof useApi<ClusterDetails>> }) {
  if (cluster.state !== 'ready') return null;
  return (
    <>
      <Empty>All indicators of this cluster have expired. These keys linked its accounts:</Empty>
      <ul class="shares">
        {cluster.data.links.map(({ key, correlation }) => (
          <li key={`${key} ${correlation}`}>
            <code>{key}</code> {correlation}
          </li>
        ))}
      </ul>
    </>
  );
}
