// One cluster: who belongs to it, by what, since when; and what can be done.
import { useState } from 'preact/hooks';
import { BANDS, useApi } from '../api.ts';
import { BandBar, BandTag, Panel, Time } from '../components/parts.tsx';
import { Empty, Shown } from '../components/states.tsx';
import { count, share } from '../format.ts';
import { link } from '../router.ts';
import { Exempt } from './exempt.tsx';
import { growth } from './growth.ts';
import { Indicators } from './indicators.tsx';
import { Revoke } from './revoke.tsx';
import { Timeline } from './timeline.tsx';
import type { ClusterDetails, Indicator } from './types.ts';

export function ClusterDetail({ id }: { id: string }) {
  const name = encodeURIComponent(id);
  const cluster = useApi<ClusterDetails>(`/clusters/${name}`, 15);
  const indicators = useApi<{ indicators: Indicator[] }>(`/indicators?cluster=${name}&limit=500`, 15);
  const [revoking, revoke] = useState<readonly string[]>();
  const [exempting, exempt] = useState(false);
  const own = indicators.state === 'ready' ? indicators.data.indicators : [];
  const keys = [...new Set(own.filter(({ revoked }) => revoked === null).map(({ key }) => key))];
  const closed = (changed: boolean) => {
    revoke(undefined);
    if (!changed) return;
    cluster.reload();
    indicators.reload();
  };
  return (
    <>
      <div class="row actions">
        <a class="button" href={link('decisions', { cluster: id })}>
          Its decisions
        </a>
        <button type="button" disabled={cluster.state !== 'ready'} onClick={() => exempt(true)}>
          Exempt…
        </button>
        <button type="button" class="danger" disabled={keys.length === 0} onClick={() => revoke(keys)}>
          Revoke all keys…
        </button>
      </div>
      <div class="grid">
        <Shown loaded={cluster} lines={8}>
          {(data) => (
            <>
              <Panel title="Members" class="half">
                <Members cluster={data} />
              </Panel>
              <Panel title="Requests" note="of the last 24 h" class="half">
                <Requests traffic={data.traffic} />
              </Panel>
            </>
          )}
        </Shown>
        <Panel title="What links it" note="keys are keyed hashes: nobody can tell what they were made of">
          <Shown loaded={indicators} lines={8}>
            {({ indicators }) =>
              indicators.length ? (
                <>
                  <Timeline indicators={indicators} />
                  <Indicators indicators={indicators} onRevoke={(key) => revoke([key])} />
                </>
              ) : (
                <Links cluster={cluster} />
              )
            }
          </Shown>
        </Panel>
      </div>
      {revoking && <Revoke keys={revoking} onClose={closed} />}
      {exempting && <Exempt cluster={id} onClose={() => exempt(false)} />}
    </>
  );
}

function Members({ cluster }: { cluster: ClusterDetails }) {
  const { accounts, keys, correlations, first, last } = cluster;
  return (
    <dl class="facts">
      <dt>Accounts</dt>
      <dd>
        <b>{count(accounts)}</b>, linked within {growth(cluster)}
      </dd>
      <dt>Keys</dt>
      <dd>{count(keys)} that link them</dd>
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
  if (!traffic) return <Empty>The ledger does not answer, so its requests are unknown. This page asks again by itself.</Empty>;
  if (!traffic.requests) return <Empty>Its accounts sent no request in the last 24 h.</Empty>;
  const models = Object.entries(traffic.by_model).toSorted(([, a], [, b]) => b - a);
  return (
    <>
      <BandBar bands={traffic.by_band} />
      <ul class="shares">
        {BANDS.filter((band) => traffic.by_band[band]).map((band) => (
          <li key={band}>
            <BandTag band={band} /> {count(traffic.by_band[band]!)} <span class="note">{share(traffic.by_band[band]!, traffic.requests)}</span>
          </li>
        ))}
      </ul>
      <h3>Models</h3>
      <ul class="shares">
        {models.map(([model, own]) => (
          <li key={model}>
            <a href={link('decisions', { model })}>{model}</a> {count(own)} <span class="note">{share(own, traffic.requests)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Its indicators may have expired while the cluster is still known. */
function Links({ cluster }: { cluster: ReturnType<typeof useApi<ClusterDetails>> }) {
  if (cluster.state !== 'ready') return null;
  return (
    <>
      <Empty>None of its indicators is in force any more. These keys linked it:</Empty>
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
