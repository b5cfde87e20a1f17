// What was released, and how far it has come: registry, KV, isolates.
import type { ComponentChildren } from 'preact';
import type { Status } from '../api.ts';
import { Hash, Panel, Time } from '../components/parts.tsx';
import { count, share } from '../format.ts';
import { link } from '../router.ts';
import { sum } from './series.ts';

/** `status` tells of the last minute. */
export function State({ status }: { status: Status }) {
  return (
    <Panel title="Rules in force" class="third state">
      <dl class="facts">
        <Released status={status} />
        <dt>In KV</dt>
        <dd>
          <Publication publication={status.publication} />
        </dd>
        <dt>Last minute</dt>
        <dd>
          <Reach status={status} />
        </dd>
        <Pull pull={status.pull} />
        <dt>Indicators</dt>
        <dd>
          <Indicators indicators={status.indicators} />
        </dd>
        <dt>Version</dt>
        <dd>{status.version}</dd>
      </dl>
    </Panel>
  );
}

function Released({ status: { release, embedded } }: { status: Status }) {
  if (!release) {
    return (
      <>
        <dt>Release</dt>
        <dd>
          None yet: the embedded rules <Hash value={embedded} /> decide.
        </dd>
      </>
    );
  }
  const { serial, kind, release: own } = release;
  return (
    <>
      <dt>Release</dt>
      <dd>
        {serial}, a {kind} of <Time at={own.created * 1000} />
      </dd>
      <dt>By</dt>
      <dd>
        {own.author || 'nobody named'}
        {own.note && `: ${own.note}`}
      </dd>
      <dt>Active</dt>
      <dd>
        <Hash value={own.active} />
      </dd>
      {own.canary && (
        <Fact name="Canary">
          <Hash value={own.canary.digest} /> for {own.canary.percent} % of the accounts
        </Fact>
      )}
      {own.shadow && (
        <Fact name="Shadow">
          <Hash value={own.shadow.digest} />, which only watches
        </Fact>
      )}
      {own.expires && (
        <Fact name="Ends">
          <Time at={own.expires * 1000} />; then the embedded rules decide
        </Fact>
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

function Publication({ publication: { serial, pending, attempts, problem } }: { publication: Status['publication'] }) {
  if (pending === null) return <>{serial === null ? 'Nothing to publish yet' : `Release ${serial} is published`}</>;
  return (
    <span class="bad">
      Release {pending} is pending after {attempts} attempts{problem && `: ${problem}`}. It is tried again by itself; until then release {serial ?? 'none'} serves.
    </span>
  );
}

function Reach({ status: { release, traffic, ledger } }: { status: Status }) {
  if (!ledger.reachable) return <span class="bad">Unknown: the ledger does not answer</span>;
  if (!traffic.requests) return <>No requests, so no isolate has looked</>;
  const newest = traffic.by_serial[String(release?.serial ?? 0)] ?? 0;
  const part = newest / (sum(Object.values(traffic.by_serial)) || 1);
  return (
    <>
      {share(part, 1)} of {count(traffic.requests)} requests were decided {release ? `by release ${release.serial}` : 'by the embedded rules'}
      <span class="reach" aria-hidden="true">
        <span style={{ width: `${100 * part}%` }} />
      </span>
    </>
  );
}

function Pull({ pull }: { pull: Status['pull'] }) {
  if (!pull) return null;
  return (
    <Fact name="Pull">
      {pull.problem ? <span class="bad">{pull.problem}. See that CONFIG_URL answers. </span> : null}
      {pull.checked === null ? 'Not asked yet' : <>Asked <Time at={pull.checked * 1000} relative /></>}
      {pull.changed !== null && <>, new rules <Time at={pull.changed * 1000} relative /></>}
    </Fact>
  );
}

function Indicators({ indicators: { count: own, clusters, pending, problem } }: { indicators: Status['indicators'] }) {
  return (
    <>
      <a href={link('clusters')}>
        {count(own)} in {count(clusters)} {clusters === 1 ? 'cluster' : 'clusters'}
      </a>
      {problem ? <span class="bad">, not in KV yet: {problem}. Tried again by itself.</span> : pending && ', the latest on their way to KV'}
    </>
  );
}
