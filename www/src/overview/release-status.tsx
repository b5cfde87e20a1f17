// The newest release, and how far it has spread: from the registry to KV and to isolates.
import type { ComponentChildren } from 'preact';
import type { DeploymentStatus } from '../api.ts';
import { Hash, Panel, Time } from '../components/ui.tsx';
import { count, share } from '../format.ts';
import { link } from '../router.ts';
import { sum } from './series.ts';

/** Shows the newest release and its adoption. `status` covers the last minute. */
export function ReleaseStatus({ status }: { status: DeploymentStatus }) {
  return (
    <Panel title="Active rules" class="third">
      <dl class="facts">
        <Released status={status} />
        <Fact name="In KV">
          <Publication publication={status.publication} />
        </Fact>
        <Fact name="Last minute">
          <Adoption status={status} />
        </Fact>
        <Pull pull={status.pull} />
        <Fact name="Indicators">
          <Indicators indicators={status.indicators} />
        </Fact>
        <Fact name="Version">{status.version}</Fact>
      </dl>
    </Panel>
  );
}

function Released({ status }: { status: DeploymentStatus }) {
  const { release, embedded } = status;
  if (!release) {
    return (
      <Fact name="Release">
        None yet: the embedded rules <Bundle digest={embedded} status={status} /> decide.
      </Fact>
    );
  }
  const { serial, kind, release: manifest } = release;
  if (!manifest) {
    return (
      <Fact name="Release">
        {serial} ({kind}), in a format that this version does not know
      </Fact>
    );
  }
  return (
    <>
      <Fact name="Release">
        {serial} ({kind}), <Time at={manifest.created * 1000} />
      </Fact>
      <Fact name="Author">
        {manifest.author || 'not given'}
        {manifest.note && `: ${manifest.note}`}
      </Fact>
      <Fact name="Active">
        <Bundle digest={manifest.active} status={status} />
      </Fact>
      {manifest.canary && (
        <Fact name="Canary">
          <Bundle digest={manifest.canary.digest} status={status} /> for {manifest.canary.percent} %
          of the accounts
        </Fact>
      )}
      {manifest.shadow && (
        <Fact name="Shadow">
          <Bundle digest={manifest.shadow.digest} status={status} />, scored but not enforced
        </Fact>
      )}
      {manifest.expires && (
        <Fact name="Expires">
          <Time at={manifest.expires * 1000} />; then the embedded rules decide
        </Fact>
      )}
    </>
  );
}

interface BundleProps {
  digest: string | null;
  status: DeploymentStatus;
}

/** Shows the digest and the content digest of a bundle, which stays the same in another build. */
function Bundle({ digest, status }: BundleProps) {
  const isEmbedded = digest === 'embedded' || digest === status.embedded;
  const content = isEmbedded ? status.embedded_content : status.release?.contents[digest ?? ''];
  return (
    <>
      <Hash value={digest} />
      {content && (
        <>
          {' '}
          (content <Hash value={content} />)
        </>
      )}
    </>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}

function Publication({ publication }: { publication: DeploymentStatus['publication'] }) {
  const { serial, pending, attempts, problem } = publication;
  if (pending === null) {
    return <>{serial === null ? 'Nothing to publish yet' : `Release ${serial} is published`}</>;
  }
  return (
    <span class="bad">
      Release {pending} is pending after {attempts} attempts{problem && `: ${problem}`}. The
      registry retries; until then release {serial ?? 'none'} is active.
    </span>
  );
}

/** The share of requests that the newest release decided. */
function Adoption({ status: { release, traffic, ledger } }: { status: DeploymentStatus }) {
  if (!ledger.reachable) return <span class="bad">Unknown: the ledger does not answer</span>;
  if (!traffic.requests) return <>No requests, so no isolate has loaded the release</>;
  const newest = traffic.by_serial[String(release?.serial ?? 0)] ?? 0;
  const part = newest / (sum(Object.values(traffic.by_serial)) || 1);
  return (
    <>
      {share(part, 1)} of {count(traffic.requests)} requests were decided by{' '}
      {release ? `release ${release.serial}` : 'the embedded rules'}
      <span class="adoption" aria-hidden="true">
        <span style={{ width: `${100 * part}%` }} />
      </span>
    </>
  );
}

function Pull({ pull }: { pull: DeploymentStatus['pull'] }) {
  if (!pull) return null;
  return (
    <Fact name="Pull">
      {pull.problem && <span class="bad">{pull.problem}. Check that CONFIG_URL answers. </span>}
      {pull.checked === null ? (
        'Not checked yet'
      ) : (
        <>
          Checked <Time at={pull.checked * 1000} relative />
        </>
      )}
      {pull.changed !== null && (
        <>
          , new rules <Time at={pull.changed * 1000} relative />
        </>
      )}
    </Fact>
  );
}

function Indicators({ indicators }: { indicators: DeploymentStatus['indicators'] }) {
  const { clusters, pending, problem } = indicators;
  return (
    <>
      <a href={link('clusters')}>
        {count(indicators.count)} in {count(clusters)} {clusters === 1 ? 'cluster' : 'clusters'}
      </a>
      {problem ? (
        <span class="bad">, not in KV yet: {problem}. The registry retries.</span>
      ) : (
        pending && ', not all in KV yet'
      )}
      <Usage indicators={indicators} />
    </>
  );
}

/**
 * Shows how much of each limit is used, and which accounts, tenants and networks use most of it.
 */
function Usage({ indicators }: { indicators: DeploymentStatus['indicators'] }) {
  const { max, links, max_links, kv_writes, kv_budget, queued_firings } = indicators;
  const correlations = Object.entries(indicators.by_correlation).sort(([, a], [, b]) => b - a);
  const refused = indicators.refused_by_quota + indicators.refused_as_weak;
  const causes = [
    ['account', indicators.top_accounts],
    ['tenant', indicators.top_tenants],
    ['network', indicators.top_networks],
  ] as const;
  return (
    <details>
      <summary>
        {share(indicators.count, max)} of the room, {count(kv_writes)} of{' '}
        {count(kv_budget)} KV writes today
        {refused > 0 && <span class="bad">, {count(refused)} firings refused today</span>}
      </summary>
      <ul>
        {correlations.slice(0, 5).map(([name, number]) => (
          <li key={name}>
            {name}: {count(number)} of {count(indicators.max_per_correlation)}
          </li>
        ))}
        <li>
          Links: {count(links)} of {count(max_links)}
        </li>
        <li>
          Firings that wait: {count(queued_firings)}; observations:{' '}
          {count(indicators.queued_observations)}
        </li>
        {causes.flatMap(([kind, list]) =>
          list.map(({ id, count: number }) => (
            <li key={`${kind} ${id}`}>
              Caused by {kind} {id}: {count(number)}
            </li>
          )),
        )}
      </ul>
    </details>
  );
}
