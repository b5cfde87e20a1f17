// Links to a result. The fragment of the address contains the weights, but no text of the request.
// Browsers do not send fragments to servers. A link may be forged, so `decode` validates all of it.
import { type Action, ACTIONS, type Band, BANDS, type Contribution } from '../api.ts';
import type { WaterfallHit } from '../components/waterfall.tsx';
import type { Scored } from '../core/core.ts';
import { isObject } from '../json.ts';

export interface Result {
  prior: number;
  score: number;
  band: Band;
  action: Action;
  digest: string;
  contributions: Contribution[];
  hits: WaterfallHit[];
  /** Name of the selected signature. */
  picked: string | null;
}

const VERSION = 1;
const MAX_LENGTH = 16_384;
const MAX_HITS = 200;
const MAX_WEIGHT = 1000;
const NAME = /^[\w .:/-]{1,80}$/;
const DIGEST = /^[0-9a-f]{64}$/;

/**
 * Returns the part of a result that a link contains. Returns null if the request was not scored.
 */
export function resultOf({ decision }: Scored, picked: string | null): Result | null {
  if (!decision) return null;
  const { prior, score, band, action, contributions, ruleset } = decision;
  const hits = decision.hits.map(({ name, family, weight }) => ({ name, family, weight }));
  const isPresent = hits.some(({ name }) => name === picked);
  return {
    prior,
    score,
    band,
    action,
    digest: ruleset,
    contributions,
    hits,
    picked: isPresent ? picked : null,
  };
}

/** Encodes a result. Leaves out sums and the score, because `decode` can compute them. */
export function encode(result: Result): string {
  const { prior, band, action, digest, contributions, hits, picked } = result;
  const hitsOf = (family: string) => hits.filter((hit) => hit.family === family);
  const families = contributions
    .filter(({ family }) => hitsOf(family).length > 0)
    .map(({ family, capped }) => [
      family,
      capped,
      hitsOf(family).map(({ name, weight }) => [name, weight]),
    ]);
  const payload = { v: VERSION, prior, band, action, digest, families, ...(picked && { picked }) };
  return btoa(JSON.stringify(payload))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}

/** Decodes a result. Returns null if the text is not a valid result. */
export function decode(text: string): Result | null {
  if (text.length > MAX_LENGTH || !/^[\w-]+$/.test(text)) return null;
  try {
    return validate(JSON.parse(atob(text.replaceAll('-', '+').replaceAll('_', '/'))) as unknown);
  } catch {
    return null;
  }
}

const isWeight = (value: unknown): value is number =>
  typeof value === 'number' && Math.abs(value) <= MAX_WEIGHT;
const isName = (value: unknown): value is string => typeof value === 'string' && NAME.test(value);
const areUnique = (names: string[]) => new Set(names).size === names.length;

function validate(payload: unknown): Result | null {
  if (!isObject(payload) || payload.v !== VERSION || !Array.isArray(payload.families)) return null;
  const { prior, digest, picked = null } = payload;
  const band = BANDS.find((band) => band === payload.band);
  const action = ACTIONS.find((action) => action === payload.action);
  const isDigest = typeof digest === 'string' && DIGEST.test(digest);
  if (!isWeight(prior) || !band || !action || !isDigest) return null;
  const contributions: Contribution[] = [];
  const hits: WaterfallHit[] = [];
  for (const row of payload.families as unknown[]) {
    const family = validateFamily(row);
    if (!family) return null;
    contributions.push(family.contribution);
    hits.push(...family.hits);
    if (hits.length > MAX_HITS) return null;
  }
  if (!areUnique(hits.map(({ name }) => name))) return null;
  if (!areUnique(contributions.map(({ family }) => family))) return null;
  const sum = contributions.reduce((sum, { capped }) => sum + capped, prior);
  return {
    prior,
    score: 100 / (1 + 10 ** (-sum / 10)),
    band,
    action,
    digest,
    contributions,
    hits,
    picked: hits.find(({ name }) => name === picked)?.name ?? null,
  };
}

/** Validates a row `[family, capped, [[name, weight], …]]`. */
function validateFamily(row: unknown) {
  if (!Array.isArray(row)) return null;
  const [family, capped, pairs] = row as unknown[];
  if (!isName(family) || !isWeight(capped) || !Array.isArray(pairs)) return null;
  const hits: WaterfallHit[] = [];
  for (const pair of pairs as unknown[]) {
    if (!Array.isArray(pair)) return null;
    const [name, weight] = pair as unknown[];
    if (!isName(name) || !isWeight(weight)) return null;
    hits.push({ name, weight, family });
  }
  const raw = hits.reduce((sum, { weight }) => sum + weight, 0);
  return { contribution: { family, raw, capped }, hits };
}
