// A histogram of scores, with the limits of the bands.
import type { Band, DeploymentStatus, Series } from '../api.ts';
import { Panel } from '../components/ui.tsx';
import { useActivePolicy } from '../core/active-policy.ts';
import { compact, count, share } from '../format.ts';
import { sum } from './series.ts';

/** Lowest score of each band. */
type Limits = Record<Exclude<Band, 'clear'>, number>;

/** Width of a bucket, in points of the score. */
const BUCKET = 5;

interface Props {
  series: Series;
  status: DeploymentStatus | undefined;
}

export function Scores({ series, status }: Props) {
  const limits = useLimits(status);
  const total = sum(series.scores);
  // Uses a logarithmic scale: most requests have no evidence, so the other columns would be too
  // small to see on a linear scale.
  const max = Math.log1p(Math.max(1, ...series.scores));
  const height = (value: number) =>
    value ? `${Math.max(2, (75 * Math.log1p(value)) / max)}%` : '0';
  return (
    <Panel title="Scores" note="requests by score, on a logarithmic scale" class="half">
      <div class="histogram" tabIndex={0} role="region" aria-label="Requests by score">
        <ol class="columns">
          {series.scores.map((value, bucket) => {
            const from = bucket * BUCKET;
            const range = `${from} to ${from + BUCKET}`;
            return (
              <li key={from} title={`${range}: ${count(value)} requests, ${share(value, total)}`}>
                <span class="visually-hidden">
                  Score {range}: {count(value)} requests
                </span>
                <span class="column-count" aria-hidden="true">
                  {value ? compact(value) : ''}
                </span>
                <span
                  class={`column fill-${limits ? bandOf(from, limits) : 'none'}`}
                  style={{ height: height(value) }}
                />
              </li>
            );
          })}
        </ol>
        {limits && <LimitLines limits={limits} />}
        <div class="scale" aria-hidden="true">
          {[0, 25, 50, 75, 100].map((at) => (
            <span key={at}>{at}</span>
          ))}
        </div>
      </div>
      <p class="note limits">{limits ? describeLimits(limits) : '\u00a0'}</p>
    </Panel>
  );
}

const describeLimits = ({ notice, suspect, hostile }: Limits) =>
  `Notice from ${notice}, suspect from ${suspect}, hostile from ${hostile}.`;

function LimitLines({ limits }: { limits: Limits }) {
  return (
    <>
      {Object.entries(limits).map(([band, at], row) => (
        <span key={band} class="limit" style={{ left: `${at}%` }} aria-hidden="true">
          <span class={at > 50 ? 'is-left' : ''} style={{ top: `${1.1 * row}em` }}>
            {band} from {at}
          </span>
        </span>
      ))}
    </>
  );
}

function bandOf(score: number, { notice, suspect, hostile }: Limits): Band {
  if (score >= hostile) return 'hostile';
  if (score >= suspect) return 'suspect';
  return score >= notice ? 'notice' : 'clear';
}

/**
 * Returns the band limits of the active policy. Returns undefined if they are not loaded or
 * invalid; scores are then drawn without limits.
 */
function useLimits(status: DeploymentStatus | undefined): Limits | undefined {
  const limits = useActivePolicy(status)?.bands;
  if (!limits) return undefined;
  const { notice, suspect, hostile } = limits;
  const isValid = [notice, suspect, hostile].every(Number.isFinite);
  return isValid ? { notice, suspect, hostile } : undefined;
}
