// The effect of a change of the rules on requests: how far scores shift, and which requests change.
import type { Action, Band, DecisionRecord } from '../api.ts';

/** The result of the rules for a request. */
export interface Verdict {
  score: number;
  band?: Band;
  action?: Action;
}

/** A request before and after a change of the rules. */
export interface Change {
  /** Request id, or line of a file. */
  request: string;
  from: Verdict;
  to: Verdict;
}

/** Upper limits of the sizes of shifts, in points of the score. */
export const SIZES = [5, 20, 100] as const;

/** Smallest shift that counts, in points. */
const MIN_SHIFT = 0.05;

/** Maximum number of changed requests that are kept. */
const MAX_CHANGES = 50;

const shiftOf = ({ from, to }: Change) => to.score - from.score;

/** Changes of the action and of the band are more important than shifts. */
const importance = (change: Change) =>
  Math.abs(shiftOf(change)) +
  (change.from.action === change.to.action ? 0 : 1000) +
  (change.from.band === change.to.band ? 0 : 500);

/** Counts the requests that a change of the rules affects. */
export class Effect {
  /** Number of compared requests. */
  requests = 0;
  /** Number of requests with another score, band or action. */
  changed = 0;
  /** Numbers of requests by size of the shift, as in `SIZES`. */
  lower = SIZES.map(() => 0);
  higher = SIZES.map(() => 0);
  #changes: Change[] = [];

  add(change: Change) {
    this.requests += 1;
    const shift = shiftOf(change);
    const isShift = Math.abs(shift) >= MIN_SHIFT;
    if (!isShift && importance(change) < 500) return;
    this.changed += 1;
    if (isShift) {
      const size = SIZES.findIndex((limit) => Math.abs(shift) <= limit);
      (shift < 0 ? this.lower : this.higher)[size]! += 1;
    }
    this.#changes.push(change);
    if (this.#changes.length > 4 * MAX_CHANGES) this.#changes = this.changes;
  }

  /** The most important changes, largest first. */
  get changes(): Change[] {
    return this.#changes
      .toSorted((a, b) => importance(b) - importance(a))
      .slice(0, MAX_CHANGES);
  }
}

/**
 * Returns the score of a decision as if its hits of `name` had another weight; null without a
 * score. A decision shows the cap of a family only if the family was capped. Otherwise the new sum
 * is not capped. Signs of innocence count as before.
 */
export function scoreWith(decision: DecisionRecord, name: string, weight: number): number | null {
  const { prior, evidence, score, hits, contributions } = decision;
  let shift = 0;
  for (const { family, raw, capped } of contributions) {
    const own = hits.filter((hit) => hit.name === name && hit.family === family);
    if (!own.length) continue;
    const next = own.reduce((sum, hit) => sum + weight - hit.weight, raw);
    // A cap also limits negative sums.
    const cap = Math.abs(raw) - Math.abs(capped) > 1e-9 ? Math.abs(capped) : Infinity;
    shift += Math.max(-cap, Math.min(cap, next)) - capped;
  }
  const isSame = score === null || Math.abs(shift) < 1e-9;
  return isSame ? score : 100 / (1 + 10 ** (-(prior + evidence + shift) / 10));
}

/** Returns the effect of another weight on decisions. */
export function effectOfWeight(
  decisions: readonly DecisionRecord[],
  name: string,
  weight: number,
): Effect {
  const effect = new Effect();
  for (const decision of decisions) {
    const score = scoreWith(decision, name, weight);
    if (decision.score === null || score === null) continue;
    const from = { score: decision.score };
    effect.add({ request: decision.request_id, from, to: { score } });
  }
  return effect;
}
