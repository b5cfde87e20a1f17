import './overview.css';
import { type Loaded, type Series, type Status, useApi } from '../api.ts';
import { Copy, Panel } from '../components/parts.tsx';
import { Empty, Loading, Problem, Shown } from '../components/states.tsx';
import { Failures } from '../overview/failures.tsx';
import { Headline } from '../overview/headline.tsx';
import { LiveState, useChanges } from '../overview/live.tsx';
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
  const { changes, seconds, live } = useChanges(minutes <= 60 ? 2000 : 10_000);
  const now = useApi<Status>('/status', seconds, changes);
  const range = useApi<Status>(`/status?minutes=${minutes}`, seconds, changes);
  const series = useApi<Series>(`/series?minutes=${minutes}`, seconds, changes);
  return (
    <>
      <div class="view-head">
        <h1>Overview</h1>
        <div class="end">
          <LiveState live={live} />
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
      {now.state === 'failed' && series.state !== 'failed' && <Problem error={now.error} retry={now.reload} />}
      {latest(now)?.ledger.reachable === false && <NoLedger />}
      <Shown loaded={series} lines={14}>
        {(data) => <Counts series={data} now={latest(now)} range={latest(range)} />}
      </Shown>
      {series.state === 'failed' && !series.data && latest(now) && (
        <div class="grid">
          <State status={latest(now)!} />
        </div>
      )}
    </>
  );
}

const latest = <T,>(loaded: Loaded<T>) => (loaded.state === 'loading' ? undefined : loaded.data);

function Counts({ series, now, range }: { series: Series; now: Status | undefined; range: Status | undefined }) {
  const state = now ? <State status={now} /> : <Panel title="Rules in force" class="third state"><Loading lines={8} /></Panel>;
  if (sum(requests(series)) + series.errors.length === 0) {
    return (
      <div class="grid">
        <NoTraffic />
        {state}
      </div>
    );
  }
  const modes = range?.traffic.by_mode;
  return (
    <>
      <Headline series={series} shadow={modes ? (modes.shadow ?? 0) / (sum(Object.values(modes)) || 1) : null} />
      <div class="grid">
        <Traffic series={series} />
        {state}
        <Scores series={series} status={now} />
        <Signatures series={series} />
        <Rulesets series={series} />
        <ShadowPanel shadow={range?.traffic.shadow ?? null} />
        <Failures errors={series.errors} />
      </div>
    </>
  );
}

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
