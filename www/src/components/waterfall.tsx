// A waterfall chart in decibans, from the prior to the sum. Each bar starts at the end of the
// previous bar.
import './waterfall.css';
import type { Band, Contribution } from '../api.ts';
import { decibans, score as formatScore } from '../format.ts';
import { BandTag } from './ui.tsx';

export interface WaterfallHit {
  name: string;
  family: string;
  weight: number;
}

interface Step {
  label: string;
  kind: 'prior' | 'hit' | 'cap' | 'total';
  from: number;
  to: number;
}

/** Returns the steps: the prior, the hits and the cap of each family, the sum. */
export function steps(
  prior: number,
  hits: readonly WaterfallHit[],
  contributions: readonly Contribution[],
): Step[] {
  const all: Step[] = [{ label: 'prior', kind: 'prior', from: 0, to: prior }];
  let at = prior;
  const add = (label: string, kind: Step['kind'], change: number) => {
    all.push({ label, kind, from: at, to: at + change });
    at += change;
  };
  for (const { family, raw, capped } of contributions) {
    const own = hits.filter((hit) => hit.family === family);
    // The family of evidence for innocence has no hits: parts of other hits contribute to it.
    // Families whose signatures have no weight get no bar.
    if (own.length === 0) {
      if (capped !== 0) add(family, 'hit', capped);
      continue;
    }
    for (const hit of own) add(hit.name, 'hit', hit.weight);
    if (Math.abs(raw - capped) > 1e-9) add(`${family} is capped`, 'cap', capped - raw);
  }
  all.push({ label: 'sum', kind: 'total', from: 0, to: at });
  return all;
}

interface Props {
  prior: number;
  hits: readonly WaterfallHit[];
  contributions: readonly Contribution[];
  score: number;
  band: Band;
  /** Called with the name of a hit when the user clicks its bar. */
  onPick?: (name: string) => void;
}

export function Waterfall({ prior, hits, contributions, score, band, onPick }: Props) {
  const all = steps(prior, hits, contributions);
  const ends = all.flatMap(({ from, to }) => [from, to]);
  const low = Math.min(...ends, -20);
  const high = Math.max(...ends, 5);
  const x = (value: number) => ((value - low) / (high - low)) * 100;
  return (
    <figure class="waterfall">
      <figcaption>
        <span class="score">{formatScore(score)}</span> of 100 <BandTag band={band} />
        <span class="note">
          {' '}
          With a prior of −20 dB, 20 dB of evidence give a score of 50. Each further 10 dB multiply
          the odds by ten.
        </span>
      </figcaption>
      <table>
        <thead>
          <tr>
            <th scope="col">Step</th>
            <th scope="col" class="number">
              Weight
            </th>
            <th scope="col" class="bar-head">
              <span class="visually-hidden">
                From {decibans(low)} to {decibans(high)}
              </span>
            </th>
          </tr>
        </thead>
        <tbody>
          {all.map((step) => (
            <StepRow key={step.label} step={step} x={x} onPick={onPick} />
          ))}
        </tbody>
      </table>
    </figure>
  );
}

interface StepProps extends Pick<Props, 'onPick'> {
  step: Step;
  /** Horizontal position of a value, in percent. */
  x(value: number): number;
}

function StepRow({ step: { label, kind, from, to }, x, onPick }: StepProps) {
  const left = x(Math.min(from, to));
  const width = Math.max(0.4, Math.abs(x(to) - x(from)));
  return (
    <tr class={`step-${kind}`}>
      <th scope="row">
        {kind === 'hit' && onPick ? (
          <button type="button" class="link" onClick={() => onPick(label)}>
            {label}
          </button>
        ) : (
          label
        )}
      </th>
      <td class="number">{decibans(kind === 'prior' || kind === 'total' ? to : to - from)}</td>
      <td class="bar-cell">
        <span class="zero" style={{ left: `${x(0)}%` }} />
        <span
          class={`bar ${to >= from ? 'up' : 'down'}`}
          style={{ left: `${left}%`, width: `${width}%` }}
        />
      </td>
    </tr>
  );
}
