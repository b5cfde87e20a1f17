// Many accounts, one template: none of them shows alone what all of them do. What the objects count comes back to every
// isolate as indicators; and nothing of it costs a request.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, bundleOf, signature } from './release.ts';
import { type Decision, type Edge, eventually, Fleet, id, Origin, SECRETS, sha256, sleep } from './support.ts';

const keys = keyPair();
const TOKEN = 'publish-token-of-the-tests';
const READ = 'read-token-of-the-tests';
const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN, READ_TOKEN: READ };

/** Accounts that share a template before anybody hears of it. */
const CROWD = 4;
/** 22 dB: an indicator alone makes a request suspect here. Shipped correlations weigh less. */
const WEIGHT = 22;
const SNAPSHOT = 1;

/** Says that at least so many accounts share a template. */
const correlation = (name: string, gte: number, rest: object = {}) => ({
  name,
  id: `00000000-0000-4000-8000-${sha256(name).slice(0, 12)}`,
  title: `Says ${name}`,
  family: 'cluster',
  status: 'stable',
  weight: WEIGHT,
  rules: ['traffic_generation'],
  group_by: ['hedgerow.template.user'],
  timespan: 3600,
  measure: { value_count: { field: 'hedgerow.account', bounds: [{ order: 'gte', value: gte }] } },
  lasts: 3600,
  ...rest,
});
const traffic = signature('traffic_generation', 0, { exists: true });
const rules = (rest: object = {}, ...more: object[]) =>
  bundleOf({}, { signatures: [traffic], correlations: [correlation('cluster_template', CROWD, rest), ...more], policy: { correlate: { shards: 2, memory: 16 << 20, snapshot: SNAPSHOT } } });

/** A campaign's template: prose of its own around a slot. */
const template = (name: string, slot: string) =>
  `You look after the orchard called ${name}, and keep its ledger in careful order through every season of the year. ` +
  `Consider the entry that follows, say which tree it belongs to, and note why the others do not fit it at all: ${slot}`;

let origin: Origin;
beforeAll(async () => {
  origin = await Origin.start();
});
afterAll(() => origin?.close());
beforeEach(() => {
  origin.reset();
  origin.answer = Origin.ok;
});

let accounts = 0;
/** A request of an account that nobody has seen, unless it is named. */
async function fresh(edge: Edge, content: string, account = `sk-orchard-${++accounts}-${id()}`, headers: Record<string, string> = {}): Promise<Decision> {
  const answer = await edge.ask(content, { authorization: `Bearer ${account}`, ...headers });
  expect(answer.status).toBe(200);
  return edge.decision(answer);
}

/** A campaign of fresh accounts, one request each, over all isolates. */
async function campaign(fleet: Fleet, name: string, count: number): Promise<Decision[]> {
  const decisions: Decision[] = [];
  for (let number = 0; number < count; number++) decisions.push(await fresh(fleet.edges[number % fleet.edges.length]!, template(name, `entry ${id()}`)));
  return decisions;
}

/** Until fresh accounts that use a template are flagged at an isolate; after how many milliseconds. */
async function flagged(edge: Edge, name: string, since = performance.now(), ms = 15_000): Promise<{ decision: Decision; ms: number }> {
  const decision = await eventually(`the indicator of ${name}`, async () => {
    const decision = await fresh(edge, template(name, `entry ${id()}`));
    expect(decision.hits.map(({ name }) => name)).toContain('cluster_template');
    return decision;
  }, ms);
  return { decision, ms: performance.now() - since };
}

describe('a fleet that counts', () => {
  let fleet: Fleet;
  let admin: Admin;
  beforeAll(async () => {
    fleet = await Fleet.start({ origin, vars, faults: true });
    admin = new Admin(fleet.edge.url, TOKEN);
    await admin.release(keys, 1, rules());
    await fleet.everywhere(1);
  });
  afterAll(() => fleet?.dispose());

  it('each account alone stays clear; together they are flagged, and a fresh account at its first request at every isolate', async () => {
    const began = performance.now();
    const first = await campaign(fleet, 'Amberwell', CROWD);
    expect(first.map(({ band, score }) => [band, score])).toEqual(first.map(() => ['clear', expect.any(Number)]));
    const since = performance.now();
    const waits = await Promise.all(fleet.edges.map((edge) => flagged(edge, 'Amberwell', since)));
    console.log(`${CROWD} accounts within ${(since - began).toFixed(0)} ms; flagged at ${fleet.edges.length} isolates after ${waits.map(({ ms }) => ms.toFixed(0)).join(', ')} ms`);
    // Now that the isolates know, an account that nobody has seen is known by its first request.
    for (const edge of fleet.edges) {
      const decision = await fresh(edge, template('Amberwell', 'a note about quinces'));
      expect(decision).toMatchObject({ band: 'suspect', hits: [{ name: 'cluster_template', weight: WEIGHT }] });
    }
    // Others are none of theirs.
    for (const edge of fleet.edges) expect(await fresh(edge, 'When do blackbirds nest?')).toMatchObject({ band: 'clear', hits: [] });
    expect(await fresh(fleet.edge, template('Amberwell', '').replace(/\w+/g, (word) => word.split('').reverse().join('')))).toMatchObject({ band: 'clear' });
  });
});
