// From the prior to the score, in decibans: each step a bar from where the last one ended.
import type { Band } from '../api.ts';
import { decibans, score as shown } from '../format.ts';
import { BandTag } from './parts.tsx';

export interface Contribution {
  family: string;
  raw: number;
  capped: number;
}

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

/** The steps: the prior, each hit by family, what a family's cap took away, the sum. */
export function steps(prior: number, hits: readonly WaterfallHit[], contributions: readonly Contribution[]): Step[] {
  const all: Step[] = [{ label: 'prior', kind: 'prior', from: 0, to: prior }];
  let at = prior;
  const add = (label: string, kind: Step['kind'], change: number) => {
    all.push({ label, kind, from: at, to: at + change });
    at += change;
  };
  for (const { family, raw, capped } of contributions) {
    for (const hit of hits.filter((hit) => hit.family === family)) add(hit.name, 'hit', hit.weight);
    if (Math.abs(raw - capped) > 1e-9) add(`${family} is capped`, 'cap', capped - raw);
  }
  all.push({ label: 'sum', kind: 'total', from: 0, to: at });
  return all;
}

export function Waterfall({ prior, hits, contributions, score, band, onPick }: { prior: number; hits: readonly WaterfallHit[]; contributions: readonly Contribution[]; score: number; band: Band; onPick?: (name: string) => void }) {
  const all = steps(prior, hits, contributions);
  const ends = all.flatMap(({ from, to }) => [from, to]);
  const [low, high] = [Math.min(...ends, -20), Math.max(...ends, 5)];
  const x = (value: number) => ((value - low) / (high - low)) * 100;
  return (
    <figure class="waterfall">
      <figcaption>
        <span class="score">{shown(score)}</span> of 100 <BandTag band={band} />
        <span class="note"> 20 dB of evidence are a score of 50 at a prior of −20 dB; every 10 dB more are ten times the odds.</span>
      </figcaption>
      <table>
        <thead>
          <tr>
            <th scope="col">What</th>
            <th scope="col" class="number">
              Weight
            </th>
            <th scope="col" class="bar-head">
              <span class="visually-hidden">From {decibans(low)} to {decibans(high)}</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {all.map(({ label, kind, from, to }) => (
            <tr key={label} class={`step-${kind}`}>
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
                <span class={`bar ${to >= from ? 'up' : 'down'}`} style={{ left: `${x(Math.min(from, to))}%`, width: `${Math.max(0.4, Math.abs(x(to) - x(from)))}%` }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  );
}
