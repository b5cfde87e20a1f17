import './overview.css';
import { type Loaded, type Series, type Status, useApi } from '../api.ts';
import { LiveState, useChanges } from '../components/live.tsx';
import { Copy, Panel } from '../components/parts.tsx';
import { Empty, Loading, Over, Problem, Shown } from '../components/states.tsx';
import { Failures } from '../overview/failures.tsx';
import { Headline } from '../overview/headline.tsx';
import { Rulesets, ShadowPanel } from '../overview/rulesets.tsx';
import { Scores } from '../overview/scores.tsx';
import { RANGES, requests, sum } from '../overview/series.ts';
import { Signatures } from '../overview/signatures.tsx';
import { State } from '../overview/state.tsx';
import { Traffic } from '../overview/traffic.tsx';
import { go } from '../router.ts';

export function Overview({ params }: { params: URLSearchParams }) {
  const asked = Number(params.get('minutes'));
  const minutes = RANGES.some(([range]) => range === asked) ? asked : 60;
  // Long ranges cost the ledger more, and change less.
  const { changes, seconds, live } = useChanges(minutes <= 60 ? 5000 : minutes <= 360 ? 30_000 : 60_000);
  const now = useApi<Status>('/status', Math.min(seconds, 10), changes);
  const range = useApi<Status>(`/status?minutes=${minutes}`, seconds, changes);
  const series = useApi<Series>(`/series?minutes=${minutes}`, seconds, changes);
  return (
    <>
      <div class="view-head">
        <h1>Overview</h1>
        <div class="end">
          <LiveState live={live} at={series.state === 'loading' ? undefined : series.at} seconds={seconds} />
          <label for="minutes">Last</label>
          <select id="minutes" value={String(minutes)} onChange={(event) => go('overview', { minutes: event.currentTarget.value })}>
            {RANGES.map(([range, name]) => (
              <option key={range} value={range}>
                {name}
              </option>
            ))}
          </select>
        </div>
      </div>
      <Shown loaded={series} lines={14}>
        {(data) => <Counts series={data} now={now} range={range} />}
      </Shown>
      {series.state === 'ready' && latest(now) && <Over>{now.state === 'failed' ? <Problem error={now.error} retry={now.reload} /> : !latest(now)!.ledger.reachable && <NoLedger />}</Over>}
      {series.state === 'failed' && !series.data && latest(now) && (
        <div class="grid">
          <State status={latest(now)!} />
        </div>
      )}
    </>
  );
}

const latest = <T,>(loaded: Loaded<T>) => (loaded.state === 'loading' ? undefined : loaded.data);

type Asked = Loaded<Status> & { reload(): void };

function Counts({ series, now, range }: { series: Series; now: Asked; range: Asked }) {
  const status = latest(now);
  const state = status ? <State status={status} /> : <NoState now={now} />;
  if (sum(requests(series)) + series.errors.length === 0) {
    return (
      <div class="grid">
        <NoTraffic />
        {state}
      </div>
    );
  }
  return (
    <>
      <Headline series={series} shadow={range.state === 'loading' ? undefined : inShadow(range.data)} />
      <div class="grid">
        <Traffic series={series} />
        {state}
        <Scores series={series} status={status} />
        <Signatures series={series} />
        <Rulesets series={series} status={status} />
        <ShadowPanel range={range} status={status} />
        <Failures errors={series.errors} />
      </div>
    </>
  );
}

/** The share of traffic in shadow mode; null where it is unknown, which is not none. */
function inShadow(status: Status | undefined): number | null {
  const modes = status?.traffic.by_mode ?? {};
  const all = sum(Object.values(modes));
  return all ? (modes.shadow ?? 0) / all : null;
}

const NoState = ({ now }: { now: Asked }) => (
  <Panel title="Rules in force" class="third state">
    {now.state === 'failed' ? <Problem error={now.error} retry={now.reload} /> : <Loading lines={8} />}
  </Panel>
);

function NoLedger() {
  return (
    <div class="problem" role="alert">
      <p>
        <strong>The ledger does not answer, so counts are missing.</strong> Requests are scored all the same. See the binding LEDGER in wrangler.toml, and Cloudflare’s status page.
      </p>
    </div>
  );
}

function NoTraffic() {
  const body = JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'When should I cut back a beech hedge?' }] });
  const curl = `curl -i ${location.origin}/v1/chat/completions -H 'authorization: Bearer sk-demo' -d '${body}'`;
  return (
    <Panel title="No traffic in this range" class="two-thirds">
      <Empty>
        <p>Choose a longer range, or make some traffic. Counts come a few seconds after the requests.</p>
      </Empty>
      <p>A whole campaign among ordinary requests, in another shell than npm start:</p>
      <Command text="npm run demo" />
      <p>A single request:</p>
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
