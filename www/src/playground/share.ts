// A result as a link: what it weighs, and nothing of what was scored. It stands in the fragment, which browsers send to
// nobody; whoever opens it cannot trust it, so all of it is checked.
import { type Action, ACTIONS, type Band, BANDS } from '../api.ts';
import type { Contribution, WaterfallHit } from '../components/waterfall.tsx';
import type { Scored } from '../core/core.ts';
import { isObject } from './problem.ts';

export interface Result {
  prior: number;
  score: number;
  band: Band;
  action: Action;
  digest: string;
  contributions: Contribution[];
  hits: WaterfallHit[];
  picked: string | null;
}

const VERSION = 1;
const LONGEST = 16_384;
const MOST = 200;
const NAME = /^[\w .:/-]{1,80}$/;
const DIGEST = /^[0-9a-f]{64}$/;

export function resultOf({ decision }: Scored, picked: string | null): Result | null {
  if (!decision) return null;
  const { prior, score, band, action, contributions, ruleset } = decision;
  const hits = decision.hits.map(({ name, family, weight }) => ({ name, family, weight }));
  return { prior, score, band, action, digest: ruleset, contributions, hits, picked: hits.some(({ name }) => name === picked) ? picked : null };
}

/** Sums and the score follow from the rest, so they are left out. */
export function encode({ prior, band, action, digest, contributions, hits, picked }: Result): string {
  const families = contributions.filter(({ family }) => hits.some((hit) => hit.family === family));
  const told = {
    v: VERSION,
    prior,
    band,
    action,
    digest,
    families: families.map(({ family, capped }) => [family, capped, hits.filter((hit) => hit.family === family).map(({ name, weight }) => [name, weight])]),
    ...(picked && { picked }),
  };
  return btoa(JSON.stringify(told)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** Null where it is none of ours. */
export function decode(text: string): Result | null {
  if (text.length > LONGEST || !/^[\w-]+$/.test(text)) return null;
  try {
    return check(JSON.parse(atob(text.replaceAll('-', '+').replaceAll('_', '/'))) as unknown);
  } catch {
    return null;
  }
}

const isWeight = (value: unknown): value is number => typeof value === 'number' && Math.abs(value) <= 1000;
const isName = (value: unknown): value is string => typeof value === 'string' && NAME.test(value);

function check(told: unknown): Result | null {
  if (!isObject(told) || told.v !== VERSION || !Array.isArray(told.families)) return null;
  const { prior, digest, picked = null } = told;
  const band = BANDS.find((band) => band === told.band);
  const action = ACTIONS.find((action) => action === told.action);
  if (!isWeight(prior) || !band || !action || typeof digest !== 'string' || !DIGEST.test(digest)) return null;
  const contributions: Contribution[] = [];
  const hits: WaterfallHit[] = [];
  for (const row of told.families as unknown[]) {
    if (!Array.isArray(row)) return null;
    const [family, capped, own] = row as unknown[];
    if (!isName(family) || !isWeight(capped) || !Array.isArray(own)) return null;
    for (const hit of own as unknown[]) {
      if (!Array.isArray(hit) || hits.length >= MOST) return null;
      const [name, weight] = hit as unknown[];
      if (!isName(name) || !isWeight(weight)) return null;
      hits.push({ name, weight, family });
    }
    const raw = hits.reduce((sum, hit) => (hit.family === family ? sum + hit.weight : sum), 0);
    contributions.push({ family, raw, capped });
  }
  const unique = (names: string[]) => new Set(names).size === names.length;
  if (!unique(hits.map(({ name }) => name)) || !unique(contributions.map(({ family }) => family))) return null;
  const sum = contributions.reduce((sum, { capped }) => sum + capped, prior);
  const score = 100 / (1 + 10 ** (-sum / 10));
  return { prior, score, band, action, digest, contributions, hits, picked: hits.find(({ name }) => name === picked)?.name ?? null };
}
