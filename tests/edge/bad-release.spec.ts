// Whatever is wrong with a release: the operator is told what and what to do, and requests go on by the last good rules.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KeyPair, keyPair, minisign } from './minisign.ts';
import { Admin, type Answer, bundleOf, DAY, phrase, plant, putSigned, releaseOf, seconds, signature, signBundle, signRelease } from './release.ts';
import { type Edge, eventually, Fleet, type FleetOptions, type Kv, Origin, raw, sleep, Traffic } from './support.ts';

const keys = keyPair();
const stranger = keyPair();
/** The key that follows: while one is replaced, both are believed. */
const successor = keyPair();
const TOKEN = 'publish-token-of-the-tests';
const VARS = { PUBLIC_KEYS: `${keys.publicKey}, ${successor.publicKey}`, ADMIN_TOKEN: TOKEN };

let origin: Origin;
beforeAll(async () => {
  origin = await Origin.start();
  origin.answer = Origin.ok;
});
afterAll(() => origin?.close());

const good = bundleOf({ lantern_red: 22 });
/** Compiled in no test: each is bad in a way of its own. */
const next = bundleOf({ lantern_red: 30 });

const regex = (pattern: string) => [signature('broken_regex', 20, { regex: { pattern, required_literals: [{ alternatives: ['hedge'], min_distance: 0 }] } })];
const bad = {
  large: bundleOf({}, { lists: [{ name: 'list_large', title: 'x'.repeat(6 << 20), kind: 'address', weight: 1, entries: [] }] }),
  many: bundleOf({}, { signatures: Array.from({ length: 50_000 }, (_, number) => signature(`many_${number}`, 1)) }),
  /** Either is good by itself. */
  half: bundleOf({ lantern_red: 22 }, { lists: [{ name: 'list_half', title: 'x'.repeat(3 << 20), kind: 'address', weight: 1, entries: [] }] }),
  otherHalf: bundleOf({ lantern_red: 23 }, { lists: [{ name: 'list_half', title: 'x'.repeat(3 << 20), kind: 'address', weight: 1, entries: [] }] }),
  /** As many, and still below 5 MiB. */
  lists: bundleOf({}, { lists: Array.from({ length: 50_000 }, (_, number) => ({ name: `l${number}`, title: '', kind: 'address', weight: 1, entries: [] })) }),
  regex: bundleOf({}, { signatures: regex('hedge(') }),
  vast: bundleOf({}, { signatures: regex('hedge\\w{1,500}\\w{1,500}\\w{1,500}\\w{1,500}') }),
  future: bundleOf({ lantern_red: 22 }, { format: 4 }),
  policy: bundleOf({ lantern_red: 22 }, { policy: { bands: { notice: 90, suspect: 50, hostile: 10 } } }),
};
const tampered = (text: string) => text.replace('lantern', 'lantorn').replace('"ana"', '"eve"');

// --- Straight into KV -------------------------------------------------------------------------------------------

/** What an intruder, or half a write, leaves in KV where release 5 was in force; and what isolates say about it. */
const REFUSED: [name: string, plant: (kv: Kv) => Promise<unknown>, says: RegExp][] = [
  ['a release by a key that nobody knows', (kv) => plant(kv, stranger, releaseOf(6, good)), /release: .*not accepted/],
  ['a release of which one byte was changed', (kv) => kv.put('release', tampered(releaseOf(6, good)), { metadata: { signature: minisign(keys, releaseOf(6, good), 'hedgerow release 6') } }), /release: .*does not fit/],
  ['a bundle of which one byte was changed', async (kv) => {
    await putSigned(kv, `bundle/${next.digest}`, { ...signBundle(keys, next), text: tampered(next.text) });
    await plant(kv, keys, releaseOf(6, next));
  }, new RegExp(`bundle ${next.digest.slice(0, 8)}`)],
  ['a bundle by a key that nobody knows', async (kv) => {
    await putSigned(kv, `bundle/${next.digest}`, signBundle(stranger, next));
    await plant(kv, keys, releaseOf(6, next));
  }, /bundle .*not accepted/],
  ['a release under its bundle’s signature', (kv) => putSigned(kv, 'release', { text: releaseOf(6, good), signature: signBundle(keys, good).signature }), /release: .*does not fit/],
  ['a bundle under its release’s signature', async (kv) => {
    await putSigned(kv, `bundle/${next.digest}`, { text: next.text, signature: signRelease(keys, releaseOf(6, next)).signature });
    await plant(kv, keys, releaseOf(6, next));
  }, /bundle .*does not fit/],
  ['a bundle in a release’s place', (kv) => putSigned(kv, 'release', signBundle(keys, good)), /release/],
  ['an older release, as it was signed then', (kv) => plant(kv, keys, releaseOf(4, good)), /4 is older than 5/],
  ['another release of the same serial', (kv) => plant(kv, keys, releaseOf(5, good, { note: 'another' })), /another release 5/],
  ['a release that expired two days ago', (kv) => plant(kv, keys, releaseOf(6, good, { expires: seconds(-2 * DAY) })), /expired/],
  ['half a release', async (kv) => kv.put('release', releaseOf(6, good).slice(0, 40), { metadata: { signature: signRelease(keys, releaseOf(6, good)).signature } }), /release/],
  ['a release without its signature', (kv) => kv.put('release', releaseOf(6, good)), /release.*signature/],
  ['a release whose signature is noise', (kv) => kv.put('release', releaseOf(6, good), { metadata: { signature: 'noise' } }), /no minisign signature/],
  ['a release whose metadata is something else', (kv) => kv.put('release', releaseOf(6, good), { metadata: [1, 2] }), /KV|signature/],
  ['an empty release', (kv) => putSigned(kv, 'release', { text: '', signature: minisign(keys, '', 'hedgerow release 6') }), /release/],
  ['a release of a format to come', (kv) => plant(kv, keys, releaseOf(6, good, { release: 2 })), /newer/],
  ['a bundle without its signature', async (kv) => {
    await kv.put(`bundle/${next.digest}`, next.text);
    await plant(kv, keys, releaseOf(6, next));
  }, /signature/],
  ['half a bundle', async (kv) => {
    await putSigned(kv, `bundle/${next.digest}`, { ...signBundle(keys, next), text: next.text.slice(0, 100) });
    await plant(kv, keys, releaseOf(6, next));
  }, /bundle/],
  ['a release whose bundle is not there', (kv) => plant(kv, keys, releaseOf(6, next)), /not in KV/],
  ['a release whose canary is not there', (kv) => plant(kv, keys, releaseOf(6, good, { canary: { digest: next.digest, percent: 50 } })), /not in KV/],
  ['a release whose shadow is not there', (kv) => plant(kv, keys, releaseOf(6, good, { shadow: { digest: next.digest } })), /not in KV/],
  ['a release of 24 MiB, which is not even read', (kv) => kv.put('release', 'x'.repeat(24 << 20), { metadata: { signature: 'noise' } }), /'release' in KV has 25165824 bytes/],
  ['bundles that are too large together', (kv) => plant(kv, keys, releaseOf(6, bad.half, { shadow: { digest: bad.otherHalf.digest } }), bad.half, bad.otherHalf), /5 MiB together/],
  ['a bundle of 6 MiB', (kv) => plant(kv, keys, releaseOf(6, bad.large), bad.large), /more than 5120 KiB/],
  ['50,000 signatures', (kv) => plant(kv, keys, releaseOf(6, bad.many), bad.many), /more than 5120 KiB|signatures/],
  ['50,000 lists in 5 MiB', (kv) => plant(kv, keys, releaseOf(6, bad.lists), bad.lists), /50000 signatures and lists/],
  ['a regex that is none', (kv) => plant(kv, keys, releaseOf(6, bad.regex), bad.regex), /regex|hedge\(/],
  ['a regex that grows beyond all bounds', (kv) => plant(kv, keys, releaseOf(6, bad.vast), bad.vast), /regex|hedge/],
  ['a bundle of a format to come', (kv) => plant(kv, keys, releaseOf(6, bad.future), bad.future), /newer/],
  ['a policy that cannot be', (kv) => plant(kv, keys, releaseOf(6, bad.policy), bad.policy), /bands/],
];

/** What looks odd and is good: it is taken over. */
const ADOPTED: [name: string, rest: object, signer?: KeyPair][] = [
  ['was made by a clock that is a day ahead', { created: seconds(DAY) }],
  ['was made by a clock that is a day behind', { created: seconds(-DAY) }],
  ['was made in 1970', { created: 0 }],
  ['expired an hour less than a day ago: the clock may be wrong', { expires: seconds(3600 - DAY) }],
  ['expires in a day', { expires: seconds(DAY) }],
  ['is signed by the key that follows', {}, successor],
];

/** What is missing in the deployment. */
const LACKING: [name: string, options: NonNullable<FleetOptions['edges']>[number]][] = [
  ['the binding RULES', { without: ['RULES'] }],
  ['PUBLIC_KEYS', { vars: { PUBLIC_KEYS: undefined } }],
  ['a PUBLIC_KEYS that is one', { vars: { PUBLIC_KEYS: 'RWQ nonsense' } }],
];

describe('straight into KV', () => {
  /** Isolates with a KV of their own, so that cases can be waited for side by side. */
  const BENCHES = 8;
  let fleet: Fleet;
  let traffic: Traffic;
  let embedded: string;
  let good5: string;
  const outcomes: { refused: string; version: object; answer: { status: number; ruleset: string | null; band: string | null } }[] = [];
  const refusal = async (edge: Edge) => ((await (await edge.health()).json()) as { refused: string | null }).refused;
  const settled = (edge: Edge, refused: boolean) =>
    eventually(refused ? 'a refusal' : 'an end of the refusal', async () => {
      await edge.ask();
      const text = await refusal(edge);
      if ((text !== null) !== refused) throw new Error(`refused: ${text}`);
      return text!;
    });

  /** One case after another, each after a good release. The last stays, so that it is tried again and again. */
  async function bench(number: number) {
    const [edge, kv] = [fleet.edges[number]!, await fleet.kv(number)];
    for (let index = number; index < REFUSED.length; index += BENCHES) {
      await REFUSED[index]![1](kv);
      outcomes[index] = { refused: await settled(edge, true), version: await edge.version(), answer: await edge.ask(phrase('lantern_red')) };
      if (index + BENCHES >= REFUSED.length) return;
      await plant(kv, keys, good5);
      await kv.delete(`bundle/${next.digest}`);
      await settled(edge, false);
    }
  }

  beforeAll(async () => {
    const edges = [...Array.from({ length: BENCHES + 1 }, (_, number) => ({ rules: `rules-${number}` })), ...LACKING.map(([, edge]) => edge), { vars: { MIN_SERIAL: '9' } }];
    fleet = await Fleet.start({ origin, edges, vars: { ...VARS, REFRESH_SECONDS: '0' } });
    embedded = (await fleet.edges.at(-1)!.version()).ruleset;
    good5 = releaseOf(5, good);
    for (let number = 0; number <= BENCHES; number++) await plant(await fleet.kv(number), keys, good5, good);
    await plant(await fleet.kv(), keys, good5, good);
    await fleet.everywhere(5, 30_000, fleet.edges.slice(0, BENCHES + 1));
    traffic = new Traffic(fleet.edges, 100);
    await Promise.all(Array.from({ length: BENCHES }, (_, number) => bench(number)));
  }, 120_000);
  afterAll(async () => {
    await traffic?.stop();
    await fleet?.dispose();
  });

  it.each(REFUSED.map(([name, , says], index) => ({ name, says, index })))('$name is refused', ({ says, index }) => {
    const { refused, version, answer } = outcomes[index]!;
    expect(refused).toMatch(says);
    expect(refused.length).toBeLessThan(400);
    expect(version).toMatchObject({ release: 5, ruleset: good.digest });
    expect([answer.status, answer.ruleset, answer.band]).toEqual([200, good.digest, 'suspect']);
  });

  it.each(LACKING.map(([name], index) => ({ name, index: BENCHES + 1 + index })))('without $name the embedded rules serve, and health says so', async ({ name, index }) => {
    const edge = fleet.edges[index]!;
    await edge.ask();
    const answer = await edge.ask();
    expect([answer.status, answer.ruleset]).toEqual([200, embedded]);
    const { warnings } = (await (await edge.health()).json()) as { warnings: { message: string; remedy: string }[] };
    expect(warnings).toContainEqual({ message: expect.stringContaining(name.includes('RULES') ? 'RULES' : 'PUBLIC_KEYS'), remedy: expect.stringMatching(/\w+/) });
  });

  it('MIN_SERIAL keeps an isolate that has seen nothing from an old release', async () => {
    const edge = fleet.edges.at(-1)!;
    expect(await settled(edge, true)).toMatch(/5 is older than 9/);
    expect((await edge.ask()).ruleset).toBe(embedded);
    await plant(await fleet.kv(), keys, releaseOf(9, good));
    await fleet.everywhere(9, 15_000, [edge]);
  });

  it('each refusal was logged once, however often it was tried again; and no request was harmed', async () => {
    // Long enough for second attempts at what stayed: they come after a second.
    await sleep(1500);
    const lines = fleet.lines('hedgerow.rules').filter(({ event, error }) => event === 'refused' && !/RULES|PUBLIC_KEYS|public key|older than 9/.test(error));
    expect(lines.map(({ error }) => error).sort()).toEqual(outcomes.map(({ refused }) => refused).sort());
    for (const line of lines) expect(line).toEqual({ log: 'hedgerow.rules', event: 'refused', serial: 5, ruleset: expect.toBeOneOf([null, expect.any(String)]), error: expect.any(String) });
    // The operator is told, too.
    const { errors } = (await new Admin(fleet.edges[BENCHES]!.url, TOKEN).status('?minutes=10')).traffic;
    const told = errors.map(({ what }: { what: string }) => what);
    for (const { refused } of outcomes) expect(told).toContain(`rules: ${refused}`);
    expect(traffic.failures).toEqual([]);
    const decided = traffic.answers.filter(({ edge }) => edge < BENCHES);
    expect(new Set(decided.map(({ edge }) => edge)).size).toBe(BENCHES);
    expect([...new Set(decided.map(({ ruleset }) => ruleset))]).toEqual([good.digest]);
  });

  // At an isolate of its own, in order: one release after another.
  const own = async () => [fleet.edges[BENCHES]!, await fleet.kv(BENCHES)] as const;

  it.each(ADOPTED.map(([name, rest, signer = keys], index) => ({ name, rest, signer, serial: 6 + index })))('a release is good that $name', async ({ rest, signer, serial }) => {
    const [edge, kv] = await own();
    await plant(kv, signer, releaseOf(serial, good, rest));
    await fleet.everywhere(serial, 15_000, [edge]);
    expect(await refusal(edge)).toBeNull();
  });

  // Isolates once looked away for longer and longer after each refusal, whatever came meanwhile.
  it('a good release after one that was refused again and again does not wait', async () => {
    const [edge, kv] = await own();
    const serial = (await edge.version()).release! + 1;
    await plant(kv, keys, releaseOf(serial, next));
    const end = performance.now() + 8_000;
    while (performance.now() < end) await edge.ask().then(() => sleep(50));
    expect(await refusal(edge)).toMatch(/not in KV/);
    await plant(kv, keys, releaseOf(serial + 1, good));
    await fleet.everywhere(serial + 1, 2_000, [edge]);
    expect(await refusal(edge)).toBeNull();
  });

  it('what was not read takes no memory', async () => {
    const memory = await Promise.all(fleet.edges.slice(0, BENCHES).map(async (edge) => ((await (await edge.health()).json()) as { memory_bytes: number }).memory_bytes));
    for (const bytes of memory) expect(bytes).toBeLessThan(48 << 20);
  });

  it('a KV without a release takes nothing away, and is no trouble', async () => {
    const [edge, kv] = await own();
    const { release } = await edge.version();
    await kv.delete('release');
    for (let time = 0; time < 3; time++) await edge.ask();
    expect([await refusal(edge), (await edge.version()).release]).toEqual([null, release]);
  });

  it('a release that expires in force gives way to the embedded rules, which is told once', async () => {
    const [edge, kv] = await own();
    await plant(kv, keys, releaseOf(20, good, { expires: seconds(3 - DAY) }));
    await fleet.everywhere(20, 3_000, [edge]);
    await eventually('the embedded rules', async () => expect((await edge.ask()).ruleset).toBe(embedded));
    expect(await edge.version()).toMatchObject({ release: null, ruleset: embedded });
    await sleep(300);
    expect(fleet.lines('hedgerow.rules').filter(({ event }) => event === 'expired')).toEqual([expect.objectContaining({ serial: 20, error: expect.any(String) })]);
    expect(traffic.failures).toEqual([]);
  });
});

// --- Through the API --------------------------------------------------------------------------------------------

describe('through the API', () => {
  let fleet: Fleet;
  let admin: Admin;
  let traffic: Traffic;
  beforeAll(async () => {
    fleet = await Fleet.start({ origin, edges: [{}, {}, { without: ['REGISTRY'] }], vars: VARS });
    admin = new Admin(fleet.edge.url, TOKEN);
    await admin.release(keys, 5, good);
    await fleet.everywhere(5);
    traffic = new Traffic(fleet.edges, 50);
  }, 60_000);
  afterAll(async () => {
    await traffic?.stop();
    await fleet?.dispose();
  });

  const put = (text: string, digest: string, signature: string) => admin.call('PUT', `/bundles/${digest}`, { bundle: text, signature });
  const upload = (bundle: { text: string; digest: string }) => put(bundle.text, bundle.digest, minisign(keys, bundle.text, `hedgerow bundle ${bundle.digest}`));
  const post = (text: string, signature: string) => admin.call('POST', '/releases', { release: text, signature });
  const release = (text: string) => admin.publish(keys, text);

  const ROWS: [name: string, call: () => Promise<Answer>, status: number, code: string][] = [
    ['a bundle by a key that nobody knows', () => admin.upload(stranger, next), 422, 'signature'],
    ['a bundle of which one byte was changed', () => put(tampered(next.text), next.digest, signBundle(keys, next).signature), 422, 'digest'],
    ['a bundle under its release’s signature', () => put(next.text, next.digest, signRelease(keys, releaseOf(6, next)).signature), 422, 'signature'],
    ['a bundle whose signature is noise', () => put(next.text, next.digest, 'noise'), 422, 'signature'],
    ['a bundle of 6 MiB', () => upload(bad.large), 422, 'bundle'],
    ['50,000 lists in 5 MiB', () => upload(bad.lists), 422, 'bundle'],
    ['a regex that is none', () => upload(bad.regex), 422, 'bundle'],
    ['a regex that grows beyond all bounds', () => upload(bad.vast), 422, 'bundle'],
    ['a bundle of a format to come', () => upload(bad.future), 422, 'bundle'],
    ['a policy that cannot be', () => upload(bad.policy), 422, 'bundle'],
    ['a release by a key that nobody knows', () => admin.publish(stranger, releaseOf(6, good)), 422, 'signature'],
    ['a release of which one byte was changed', () => post(tampered(releaseOf(6, good)), signRelease(keys, releaseOf(6, good)).signature), 422, 'signature'],
    ['a release under its bundle’s signature', () => post(releaseOf(6, good), signBundle(keys, good).signature), 422, 'signature'],
    ['a bundle in a release’s place', () => post(good.text, signBundle(keys, good).signature), 422, 'release'],
    ['a release of a bundle that is not stored', () => release(releaseOf(6, next)), 422, 'unknown_bundle'],
    ['a canary that is not stored', () => release(releaseOf(6, good, { canary: { digest: next.digest, percent: 10 } })), 422, 'unknown_bundle'],
    ['a release that expired two days ago', () => release(releaseOf(6, good, { expires: seconds(-2 * DAY) })), 422, 'release'],
    ['a canary of 0 percent', () => release(releaseOf(6, good, { canary: { digest: good.digest, percent: 0 } })), 422, 'release'],
    ['a release of a format to come', () => release(releaseOf(6, good, { release: 2 })), 422, 'release'],
    ['an older release, as it was signed then', () => release(releaseOf(4, good)), 409, 'serial'],
    ['another release of the same serial', () => release(releaseOf(5, good, { note: 'another' })), 409, 'serial'],
    ['what is no JSON', () => admin.call('POST', '/releases', '{"release":'), 400, 'invalid'],
    ['what is other JSON', () => admin.call('POST', '/releases', { release: 7 }), 400, 'invalid'],
  ];

  it.each(ROWS)('%s: told, and without effect', async (_, call, status, code) => {
    const { status: answered, body } = await call();
    expect([answered, body.error]).toEqual([status, { code, message: expect.stringMatching(/\w/), remedy: expect.stringMatching(/\w/), ...(code === 'serial' && { serial: 5 }) }]);
    expect(body.error.message.length).toBeLessThan(500);
    expect(await admin.got('/releases/current')).toMatchObject({ serial: 5 });
    expect((await admin.got('/bundles')).bundles.map(({ digest }: { digest: string }) => digest)).toEqual([good.digest]);
  });

  it('a body of 13 MiB is not even read', async () => {
    const head = [`PUT /_hedgerow/v1/bundles/${good.digest} HTTP/1.1`, 'host: edge', `authorization: Bearer ${TOKEN}`, 'content-type: application/json', `content-length: ${13 << 20}`, '', ''].join('\r\n');
    const { status, text } = await raw(fleet.edge.port, [head, '{"bundle":"']);
    expect([status, JSON.parse(text.split('\r\n\r\n')[1]!).error.code]).toEqual([413, 'too_large']);
  });

  it('without the binding REGISTRY there is 503, and the release in KV serves all the same', async () => {
    const lonely = new Admin(fleet.edges[2]!.url, TOKEN);
    for (const path of ['/releases', '/bundles', '/audit']) {
      const { status, body } = await lonely.get(path);
      expect([status, body.error]).toEqual([503, { code: 'unavailable', message: expect.stringContaining('REGISTRY'), remedy: expect.stringContaining('wrangler.toml') }]);
    }
    expect((await lonely.publish(keys, releaseOf(6, good))).status).toBe(503);
    expect((await fleet.edges[2]!.ask()).ruleset).toBe(good.digest);
  });

  it('a clock that is wrong by a day is no trouble', async () => {
    let serial = 5;
    for (const rest of [{ created: seconds(DAY), expires: seconds(DAY) }, { created: seconds(-DAY), expires: seconds(3600 - DAY) }]) {
      expect((await release(releaseOf(++serial, good, rest))).status).toBe(201);
    }
    await fleet.everywhere(serial);
  });

  it('of two pushes at once exactly one is in, and the other is told the serial', async () => {
    const { serial } = await admin.got('/releases/current');
    const others = fleet.edges.slice(0, 2).map(({ url }) => new Admin(url, TOKEN));
    for (let round = 1; round <= 3; round++) {
      const answers = await Promise.all([0, 1, 2, 3].map((number) => others[number % 2]!.publish(keys, releaseOf(serial + round, good, { note: `of ${number}` }))));
      const lost = answers.filter(({ status }) => status === 409);
      expect(answers.filter(({ status }) => status === 201 || status === 202)).toHaveLength(1);
      expect(lost).toHaveLength(3);
      for (const { body } of lost) expect(body.error).toMatchObject({ code: 'serial', serial: serial + round });
      const winner = answers.findIndex(({ status }) => status < 300);
      expect((await admin.got('/releases/current')).release.note).toBe(`of ${winner}`);
    }
    await fleet.everywhere(serial + 3, 20_000);
  });

  it('a token that is guessed a thousand times: slowly, in vain, and at nobody else’s cost', { timeout: 60_000 }, async () => {
    const before = fleet.logs.length;
    const guess = (number: number) => `guessed-token-of-nobody-${String(number).padStart(4, '0')}`;
    const numbers = Array.from({ length: 1000 }, (_, number) => number);
    const answers: Answer[] = [];
    let waiting = 0;
    const guessers = Array.from({ length: 500 }, async () => {
      for (let number = numbers.pop(); number !== undefined; number = numbers.pop()) {
        waiting++;
        answers.push(await new Admin(fleet.edge.url, guess(number), { 'cf-connecting-ip': '203.0.113.77' }).get('/releases/current'));
        waiting--;
      }
    });
    await sleep(1000);
    const [right, asked] = [await admin.get('/releases/current'), await fleet.edge.ask()];
    expect(waiting).toBeGreaterThan(0);
    expect([right.status, asked.status]).toEqual([200, 200]);
    await Promise.all(guessers);
    expect(answers).toHaveLength(1000);
    const [wrong, throttled] = [401, 429].map((status) => answers.filter((answer) => answer.status === status));
    expect(wrong!.length + throttled!.length).toBe(1000);
    expect(throttled!.length).toBeGreaterThan(900);
    for (const { headers } of wrong!) expect(headers.get('www-authenticate')).toMatch(/^Bearer/);
    for (const { headers } of throttled!) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
    // Nobody is answered at once: what a guess takes bounds how many there can be.
    expect(Math.min(...answers.map(({ ms }) => ms))).toBeGreaterThan(400);
    const told = fleet.logs.slice(before).filter(({ message }) => !message.includes('hedgerow.decision'));
    expect(told.length).toBeGreaterThan(0);
    // One at each power of two within a minute; and a minute may end meanwhile.
    expect(told.length).toBeLessThanOrEqual(20);
    const said = `${JSON.stringify(told)}${JSON.stringify((await admin.got('/audit?limit=500')).entries)}`;
    expect(said).not.toMatch(/guessed-token|203\.0\.113\.77/);
    const { entries } = await admin.got('/audit?limit=500');
    const auth = entries.filter(({ what }: { what: string }) => what === 'auth');
    expect(auth.length).toBeGreaterThan(0);
    expect(auth.length).toBeLessThan(15);
    expect(auth[0]).toMatchObject({ who: 'nobody', from: expect.stringMatching(/^[0-9a-f]{16}$/) });
  });

  it('none of it cost a client anything', async () => {
    await traffic.stop();
    expect(traffic.failures).toEqual([]);
    expect(traffic.rulesets()).toEqual([good.digest]);
  });
});

it('without PUBLIC_KEYS nothing can be published, and the API says why', async () => {
  const fleet = await Fleet.start({ origin, workers: 1, vars: { ADMIN_TOKEN: TOKEN } });
  try {
    const admin = new Admin(fleet.edge.url, TOKEN);
    for (const call of [() => admin.upload(keys, good), () => admin.publish(keys, releaseOf(1, 'embedded'))]) {
      const { status, body } = await call();
      expect([status, body.error]).toEqual([503, { code: 'unavailable', message: expect.stringContaining('PUBLIC_KEYS'), remedy: expect.stringMatching(/\w/) }]);
    }
    expect((await fleet.edge.ask()).status).toBe(200);
  } finally {
    await fleet.dispose();
  }
});

it('without KV a release is kept, not lost, and the operator told what is missing', async () => {
  const bare = await Fleet.start({ origin, edges: [{ without: ['RULES'] }], storeHasRules: false, vars: VARS });
  try {
    const admin = new Admin(bare.edge.url, TOKEN);
    expect((await admin.upload(keys, good)).status).toBe(201);
    const { status, body } = await admin.publish(keys, releaseOf(1, good));
    expect([status, body]).toEqual([202, { serial: 1, published: false, problem: 'the binding RULES is missing' }]);
    expect((await admin.status()).publication).toMatchObject({ serial: null, pending: 1, problem: 'the binding RULES is missing' });
    expect((await bare.edge.ask()).status).toBe(200);
  } finally {
    await bare.dispose();
  }
});
