// How many requests have which score, and where the bands begin.
import { useEffect, useState } from 'preact/hooks';
import { type Band, type Series, type Status, useApi } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { compact, count, share } from '../format.ts';
import { sum } from './series.ts';
import { shippedBundle } from '../core/core.ts';

type Limits = Record<Exclude<Band, 'clear'>, number>;
const STEP = 5;

export function Scores({ series, status }: { series: Series; status: Status | undefined }) {
  const limits = useLimits(status);
  const total = sum(series.scores);
  // Most traffic has no evidence at all: on a linear scale nothing else could be seen.
  const most = Math.log1p(Math.max(1, ...series.scores));
  return (
    <Panel title="Scores" note="requests by score; the height is logarithmic" class="half">
      <div class="histogram" tabIndex={0} role="region" aria-label="Requests by score">
        <ol class="columns">
          {series.scores.map((value, step) => (
            <li key={step} title={`${step * STEP} to ${(step + 1) * STEP}: ${count(value)} requests, ${share(value, total)}`}>
              <span class="visually-hidden">
                Score {step * STEP} to {(step + 1) * STEP}: {count(value)} requests
              </span>
              <span class="column-count" aria-hidden="true">
                {value ? compact(value) : ''}
              </span>
              <span class={`column fill-${limits ? bandOf(step * STEP, limits) : 'none'}`} style={{ height: value ? `${Math.max(2, (75 * Math.log1p(value)) / most)}%` : '0' }} />
            </li>
          ))}
        </ol>
        {limits && <Marks limits={limits} />}
        <div class="scale" aria-hidden="true">
          {[0, 25, 50, 75, 100].map((at) => (
            <span key={at}>{at}</span>
          ))}
        </div>
      </div>
      <p class="note limits">{limits ? `Notice from ${limits.notice}, suspect from ${limits.suspect}, hostile from ${limits.hostile}.` : ' '}</p>
    </Panel>
  );
}

function Marks({ limits }: { limits: Limits }) {
  return (
    <>
      {Object.entries(limits).map(([band, at]) => (
        <span key={band} class={`limit band-${band}`} style={{ left: `${at}%` }} aria-hidden="true" />
      ))}
    </>
  );
}

function bandOf(score: number, { notice, suspect, hostile }: Limits): Band {
  if (score >= hostile) return 'hostile';
  if (score >= suspect) return 'suspect';
  return score >= notice ? 'notice' : 'clear';
}

/** Where bands begin in the bundle that is in force. */
function useLimits(status: Status | undefined): Limits | undefined {
  const active = status && (status.release?.release.active ?? 'embedded');
  const [shipped, set] = useState<string>();
  useEffect(() => {
    if (active === 'embedded') void shippedBundle().then(set, () => undefined);
  }, [active]);
  const stored = useApi<{ bundle: string }>(active && active !== 'embedded' ? `/bundles/${active}` : null);
  const text = active === 'embedded' ? shipped : stored.state === 'ready' ? stored.data.bundle : undefined;
  const [limits, setLimits] = useState<Limits>();
  useEffect(() => {
    setLimits(text === undefined ? undefined : limitsOf(text));
  }, [text]);
  return limits;
}

/** Those of a bundle; without them the scores are drawn all the same. */
function limitsOf(bundle: string): Limits | undefined {
  try {
    const { notice, suspect, hostile } = (JSON.parse(bundle) as { policy: { bands: Limits } }).policy.bands;
    return [notice, suspect, hostile].every(Number.isFinite) ? { notice, suspect, hostile } : undefined;
  } catch {
    return undefined;
  }
}
