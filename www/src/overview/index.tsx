import './overview.css';
import { useRef } from 'preact/hooks';
import { type DeploymentStatus, latest, type Loaded, type Series, useApi } from '../api.ts';
import { Async, Empty, Loading, Problem, StaleNotice } from '../components/async-states.tsx';
import { LiveStatus, useLiveUpdates } from '../components/live-updates.tsx';
import { Copy, Panel } from '../components/ui.tsx';
import { type Range, toEarlierQuery, toQuery, useRange } from '../range.ts';
import type { Earlier } from './compare.tsx';
import { Exemptions } from './exemptions.tsx';
import { Failures } from './failures.tsx';
import { RangePicker } from './range-picker.tsx';
import { ReleaseStatus } from './release-status.tsx';
import { Rulesets, ShadowPanel } from './rulesets.tsx';
import { Scores } from './scores.tsx';
import { requests, sum } from './series.ts';
import { Signatures } from './signatures.tsx';
import { Summary } from './summary.tsx';
import { Traffic } from './traffic.tsx';
import { Unscored } from './unscored.tsx';

/**
 * Returns the minimum milliseconds between updates. Longer ranges are updated less often, because
 * they cause more work for the ledger and change more slowly.
 */
function updateInterval(minutes: number): number {
  if (minutes <= 60) return 5000;
  return minutes <= 360 ? 30_000 : 60_000;
}

export function Overview({ params }: { params: URLSearchParams }) {
  const selected = useRange(params);
  const { minutes, fixed } = selected;
  const query = toQuery(selected);
  const { changes, seconds, live } = useLiveUpdates(updateInterval(fixed ? Infinity : minutes));
  const now = useApi<DeploymentStatus>('/status', Math.min(seconds, 10), changes);
  const range = useApi<DeploymentStatus>(`/status?${query}`, seconds, changes);
  const series = useApi<Series>(`/series?${query}`, seconds, changes);
  const { earlier, note } = useEarlier(selected);
  const status = latest(now);
  const at = series.state === 'loading' ? undefined : series.at;
  return (
    <>
      <div class="view-head">
        <h1>Overview</h1>
        <div class="end">
          <LiveStatus live={live} at={at} seconds={seconds} />
          <RangePicker range={selected} note={note} />
        </div>
      </div>
      <Async loaded={series} lines={14}>
        {(data) => <Counts series={data} earlier={earlier} now={now} range={range} />}
      </Async>
      {series.state === 'ready' && status && (
        <StaleNotice>
          {now.state === 'failed' ? (
            <Problem error={now.error} retry={now.reload} />
          ) : (
            !status.ledger.reachable && <LedgerDown />
          )}
        </StaleNotice>
      )}
      {series.state === 'failed' && !series.data && status && (
        <div class="grid">
          <ReleaseStatus status={status} />
        </div>
      )}
    </>
  );
}

/**
 * Loads the range with which a range is compared. While the next answer is loading, returns the
 * last one, if it is of the same comparison. `note` says why nothing is compared.
 */
function useEarlier(range: Range): { earlier: Earlier | undefined; note: string | undefined } {
  const query = toEarlierQuery(range);
  const loaded = useApi<Series>(query && `/series?${query}`);
  const { compare } = range;
  const key = JSON.stringify(range);
  const last = useRef<{ key: string; earlier: Earlier }>(undefined);
  const series = query ? latest(loaded) : undefined;
  if (series && compare && last.current?.earlier.series !== series) {
    last.current = { key, earlier: { series, comparison: compare } };
  }
  if (!compare) return { earlier: undefined, note: undefined };
  if (!query) return { earlier: undefined, note: 'Counts are kept for 31 days.' };
  const earlier = last.current?.key === key ? last.current.earlier : undefined;
  const isFailed = loaded.state === 'failed' && !earlier;
  return { earlier, note: isFailed ? 'The earlier range could not be loaded.' : undefined };
}

type LoadedStatus = Loaded<DeploymentStatus> & { reload(): void };

interface CountsProps {
  series: Series;
  /** The range with which the series is compared. */
  earlier: Earlier | undefined;
  /** The current status. */
  now: LoadedStatus;
  /** The status over the whole range. */
  range: LoadedStatus;
}

function Counts({ series, earlier, now, range }: CountsProps) {
  const status = latest(now);
  const releaseStatus = status ? (
    <ReleaseStatus status={status} />
  ) : (
    <StatusPlaceholder now={now} />
  );
  if (sum(requests(series)) + series.errors.length === 0) {
    return (
      <div class="grid">
        <NoTraffic />
        {releaseStatus}
      </div>
    );
  }
  return (
    <>
      <Summary
        series={series}
        earlier={earlier}
        shadow={range.state === 'loading' ? undefined : shadowShare(range.data)}
      />
      <div class="grid">
        <Traffic series={series} earlier={earlier} serial={status?.release?.serial} />
        {releaseStatus}
        <Scores series={series} status={status} />
        <Signatures series={series} earlier={earlier} />
        <Unscored range={range} />
        <Rulesets series={series} status={status} />
        <ShadowPanel range={range} status={status} />
        <Exemptions range={range} />
        <Failures errors={series.errors} />
      </div>
    </>
  );
}

/** Returns the share of traffic in shadow mode, or null if it is unknown. */
function shadowShare(status: DeploymentStatus | undefined): number | null {
  const modes = status?.traffic.by_mode ?? {};
  const total = sum(Object.values(modes));
  return total ? (modes.shadow ?? 0) / total : null;
}

const StatusPlaceholder = ({ now }: { now: LoadedStatus }) => (
  <Panel title="Active rules" class="third">
    {now.state === 'failed' ? (
      <Problem error={now.error} retry={now.reload} />
    ) : (
      <Loading lines={8} />
    )}
  </Panel>
);

function LedgerDown() {
  return (
    <div class="problem" role="alert">
      <p>
        <strong>The ledger does not answer, so counts are missing.</strong> Requests are still
        scored. Check the binding LEDGER in wrangler.toml, and Cloudflare’s status page.
      </p>
    </div>
  );
}

function NoTraffic() {
  const content = 'When should I cut back a beech hedge?';
  const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content }] });
  const url = `${location.origin}/v1/chat/completions`;
  const curl = `curl -i ${url} -H 'authorization: Bearer sk-demo' -d '${body}'`;
  return (
    <Panel title="No traffic in this range" class="two-thirds">
      <Empty>
        <p>Choose a longer range, or send traffic. Counts appear a few seconds after requests.</p>
      </Empty>
      <p>To simulate a campaign among ordinary requests, run in a second shell:</p>
      <Command text="npm run demo" />
      <p>To send a single request:</p>
      <Command text={curl} />
    </Panel>
  );
}

const Command = ({ text }: { text: string }) => (
  <div class="command">
    <code>{text}</code>
    <Copy text={text} />
  </div>
);
