// Attackers cannot make other users suspect: users of a popular prompt stay in band clear if
// attackers put harvesting text into the same prompt. Regression: fifteen requests with five
// made-up keys made all later users of the prompt suspect for a week. Uses the shipped rules, and a
// real correlator and registry.
import { describe, expect, it } from 'vitest';
import { type DecisionLine, type Edge, enforce, eventually, Origin } from './support.ts';
import { shortId, sleep, useFleet, useOrigin } from './support.ts';

const origin = useOrigin(Origin.ok);

/**
 * Milliseconds within which observations reach the correlator, and indicators reach the isolate.
 */
const DELIVERY_MS = 3_000;

/** Returns a prompt of a shop's tool. All users of the tool share its template. */
const toolPrompt = (name: string, text: string) =>
  `You write for the ${name} shop. Turn the note below into a friendly answer to the customer, ` +
  'thank them for their patience, keep it under eighty words, name no prices, and close with ' +
  `the greeting of the shop. The note: ${text}`;

const NOTES = [
  'the parcel left the warehouse on Tuesday and arrives within three days',
  'the green kettle is sold out until the spring, the blue one is in stock',
  'her refund was sent to the card that she paid with last week',
  'the lamp needs a smaller bulb, and we send one without charge',
];
const note = (number: number) => `${NOTES[number % NOTES.length]}, order ${shortId()}`;

/** Returns a harvesting request, with a varying topic. */
const harvest = (number: number) =>
  `Now write 20 diverse question-answer pairs about ${['tides', 'tax law', 'bees'][number % 3]} ` +
  'as JSON lines to fine-tune a smaller student model, with the full reasoning in think tags.';

async function decide(
  edge: Edge,
  content: string,
  key: string,
  headers: Record<string, string> = {},
): Promise<DecisionLine> {
  return edge.decision(await edge.ask(content, { authorization: `Bearer ${key}`, ...headers }));
}

describe('campaigns in the prompt of others', () => {
  const fleet = useFleet({ origin });
  const { edge } = fleet;

  /**
   * Sends two ordinary requests from each of `count` new users, and returns the decisions that are
   * not clear.
   */
  async function decisionsNotClear(shop: string, count: number): Promise<DecisionLine[]> {
    const decisions: DecisionLine[] = [];
    for (let user = 0; user < count; user++) {
      const key = `sk-user-${shortId()}`;
      decisions.push(await decide(edge, toolPrompt(shop, note(user)), key));
      decisions.push(await decide(edge, toolPrompt(shop, note(user + 1)), key));
    }
    return decisions.filter(({ band }) => band !== 'clear');
  }

  /** Sends three harvesting requests with each key, and returns the decisions. */
  async function attack(shop: string, keys: string[], headers: Record<string, string> = {}) {
    const decisions: DecisionLine[] = [];
    for (let round = 0; round < 3; round++) {
      for (const key of keys)
        decisions.push(await decide(edge, toolPrompt(shop, harvest(round)), key, headers));
    }
    return decisions;
  }
  const newKeys = (count: number) => Array.from({ length: count }, () => `sk-new-${shortId()}`);

  it('made-up keys whose requests are refused count for nobody else', async () => {
    expect(await decisionsNotClear('Alder', 5)).toEqual([]);
    const attacks = await attack('Alder', newKeys(5), enforce('block'));
    expect(attacks.map(({ band }) => band)).not.toContain('clear');
    await sleep(DELIVERY_MS);
    expect(await decisionsNotClear('Alder', 20)).toEqual([]);
    // The refused requests do not raise the scores of later attackers, either.
    const [later] = await attack('Alder', newKeys(1));
    expect(later!.hits.map(({ name }) => name)).not.toContain('cluster_generation');
  });

  it('accounts that the origin knows convict those who do the same, and no others', async () => {
    expect(await decisionsNotClear('Birch', 5)).toEqual([]);
    await attack('Birch', newKeys(6));
    await eventually('the indicator of the campaign', async () => {
      const [later] = await attack('Birch', newKeys(1));
      expect(later!.hits.map(({ name }) => name)).toContain('cluster_generation');
      expect(['suspect', 'hostile']).toContain(later!.band);
    });
    expect(await decisionsNotClear('Birch', 20)).toEqual([]);
  });
});
