// Our own failures: how often, and what to do about each.
import type { Series } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Empty } from '../components/states.tsx';
import { count } from '../format.ts';
import { Spark, Trend } from './parts.tsx';
import { halves } from './series.ts';

const REMEDIES: readonly [RegExp, string][] = [
  [/^ACCOUNT_SECRET/, 'Requests pass unscored until it is set: npx wrangler secret put ACCOUNT_SECRET.'],
  [/^the embedded ruleset/, 'Requests pass unscored. Build again and deploy: npm run build, npx wrangler deploy.'],
  [/^rules: the release in force has expired/, 'The embedded rules decide now. Release again: hedgerow release.'],
  [/^(rules|release|bundle)/, 'Isolates keep the rules that they have. See “Rules in force”, then push and release again.'],
  [/^correlate: .*dropped/, 'Correlators cannot keep up: raise correlate.shards in rules/policy.toml.'],
  [/^(correlate|noting for correlation)/, 'Single requests are scored all the same; only what they have in common is missed. See hedgerow.correlator in the Worker’s log.'],
  [/^indicators/, 'Indicators that are known still count. It is tried again by itself; see the KV binding if it lasts.'],
  [/shadow/, 'Only the watched rules failed; what decides did not. Send the line hedgerow.panic of the log to the maintainers.'],
  [/panicked|scoring|scored/, 'Such requests were let through unscored, or refused where fail_closed is set. Send the line hedgerow.panic of the log to the maintainers.'],
];

const remedy = (what: string) => REMEDIES.find(([pattern]) => pattern.test(what))?.[1] ?? 'Look for it in the Worker’s log: npx wrangler tail.';

export function Failures({ errors }: { errors: Series['errors'] }) {
  return (
    <Panel title="Errors and fail-opens">
      {errors.length === 0 ? (
        <Empty>No failure was reported in this range.</Empty>
      ) : (
        <ul class="failures">
          {errors.map(({ what, count: own, points }) => {
            const [first, second] = halves(points);
            return (
              <li key={what}>
                <div class="failure">
                  <strong>{what}</strong>
                  <span class="number">
                    {count(own)} <Trend first={first} second={second} />
                  </span>
                  <Spark points={points} />
                </div>
                <p class="note">{remedy(what)}</p>
              </li>
            );
          })}
        </ul>
      )}
    </Panel>
  );
}
