// Failures of Hedgerow itself: their frequency and their remedies.
import type { Series } from '../api.ts';
import { Empty } from '../components/async-states.tsx';
import { Panel } from '../components/ui.tsx';
import { count } from '../format.ts';
import { Spark } from './spark.tsx';

const REPORT_PANIC = 'Send the line hedgerow.panic of the log to the maintainers.';

/** Remedies by pattern of the error; the first match applies. */
const REMEDIES: readonly [RegExp, string][] = [
  [
    /^ACCOUNT_SECRET/,
    'Requests are forwarded unscored until it is set: npx wrangler secret put ACCOUNT_SECRET.',
  ],
  [
    /^the embedded ruleset/,
    'Requests are forwarded unscored. Build and deploy again: npm run build, npx wrangler deploy.',
  ],
  [/^rules: .*expired/, 'The embedded rules decide now. Publish a new release: hedgerow release.'],
  [
    /^(rules|release|bundle)/,
    'Isolates continue with their current rules. See “Active rules”, then push and release again.',
  ],
  [
    /^correlate: .*dropped/,
    'Correlators are overloaded: raise correlate.shards in rules/policy.toml.',
  ],
  [
    /^correlate|correlation|observation/,
    'Single requests are still scored; correlations miss some of them. See ' +
      'hedgerow.correlator in the Worker’s log.',
  ],
  [
    /^indicators/,
    'Known indicators still count, and the update is retried. If the error persists, check ' +
      'the KV binding.',
  ],
  [/shadow/, `Only the shadow rules failed; the active rules did not. ${REPORT_PANIC}`],
  [
    /panicked|scoring|scored/,
    `These requests were forwarded unscored, or refused if fail_closed is set. ${REPORT_PANIC}`,
  ],
];

const remedyFor = (error: string) =>
  REMEDIES.find(([pattern]) => pattern.test(error))?.[1] ??
  'Look for the error in the Worker’s log: npx wrangler tail.';

export function Failures({ errors }: { errors: Series['errors'] }) {
  return (
    <Panel title="Errors and fail-opens">
      {errors.length === 0 ? (
        <Empty>No failure was reported in this range.</Empty>
      ) : (
        <ul class="failures">
          {errors.map((error) => (
            <Failure key={error.message} error={error} />
          ))}
        </ul>
      )}
    </Panel>
  );
}

function Failure({ error }: { error: Series['errors'][number] }) {
  return (
    <li>
      <div class="failure">
        <strong>{error.message}</strong>
        <span class="number">
          {count(error.count)}
        </span>
        <Spark points={error.points} />
      </div>
      <p class="note">{remedyFor(error.message)}</p>
    </li>
  );
}
