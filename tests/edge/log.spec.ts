// The decision log: `[log]` of the policy chooses the decisions that are logged, and LOG_DECISIONS
// overrides it.
import { describe, expect, it } from 'vitest';
import { chat, enforce, type Filter, fixture, sendFixture, useOrigin, withFilter } from './support';

const PATH = '/v1/chat/completions';
const CLEAR_REQUESTS = 60;
const origin = useOrigin();
const sampled = { origin, vars: { LOG_DECISIONS: undefined } };

/** Sends ordinary requests, and then one of a harvest. Returns once the last one is logged. */
async function sendMixed(filter: Filter) {
  for (let index = 0; index < CLEAR_REQUESTS; index++) {
    const response = await filter.post(PATH, chat(`How many days has month ${index}?`));
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  }
  await filter.decision(await sendFixture(filter, fixture('harvest-openai')));
}

describe('the decision log', () => {
  it('has every suspect decision, and a small share of the clear ones', () =>
    withFilter(sampled, async (filter) => {
      await sendMixed(filter);
      const lines = filter.decisions();
      const clear = lines.filter(({ band }) => band === 'clear');
      // One in a hundred is expected. Ten of sixty have a probability below one in a billion.
      expect(clear.length).toBeLessThan(10);
      expect(lines.length - clear.length).toBe(1);
      for (const { band, logged_share } of lines)
        expect(logged_share).toBe(band === 'clear' ? 0.01 : undefined);
    }));

  it('has every decision if LOG_DECISIONS is all', () =>
    withFilter({ origin }, async (filter) => {
      await sendMixed(filter);
      expect(filter.decisions()).toHaveLength(CLEAR_REQUESTS + 1);
    }));

  it('has each enforced decision, also a clear one', () =>
    withFilter(sampled, async (filter) => {
      for (let index = 0; index < 5; index++) {
        const response = await filter.post(PATH, chat('How many days?'), enforce('block'));
        expect(response.status).toBe(403);
        expect(await filter.decision(response)).toMatchObject({ band: 'clear', enforced: true });
      }
    }));
});
