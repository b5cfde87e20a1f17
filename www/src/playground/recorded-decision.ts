import { type Action, ACTIONS, type Band, BANDS } from '../api.ts';
import { isObject } from '../json.ts';

/** The part of a decision that a replay counts. */
export interface RecordedDecision {
  /** Null if scoring failed. */
  band: Band | null;
  action: Action;
  hits: { name: string }[];
}

/**
 * Returns the decision in a line that the view Decisions has exported; null for other lines. Such a
 * line has no text of the request, so it cannot be scored again.
 */
export function toDecision(line: string): RecordedDecision | null {
  // Does not parse requests, which can be long.
  if (!line.includes('"request_id"') || !line.includes('"contributions"')) return null;
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return null;
  }
  if (!isObject(json) || 'body' in json || typeof json.request_id !== 'string') return null;
  const action = ACTIONS.find((action) => action === json.action);
  if (!action || !Array.isArray(json.hits)) return null;
  const hits = (json.hits as unknown[]).flatMap((hit) =>
    isObject(hit) && typeof hit.name === 'string' ? [{ name: hit.name }] : [],
  );
  return { band: BANDS.find((band) => band === json.band) ?? null, action, hits };
}
