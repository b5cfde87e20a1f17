// Invalid releases: the operator gets a message and a remedy, and the last valid rules remain
// active.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KeyPair, keyPair, minisign } from './minisign.ts';
import {
  Admin,
  ADMIN_TOKEN,
  type AdminResponse,
  type Bundle,
  DAY,
  EMBEDDED,
  epochSeconds,
  makeBundle,
  makeManifest,
  phrase,
  putRelease,
  putSigned,
  signature,
  signBundle,
  signRelease,
} from './release-fixtures.ts';
import {
  type Edge,
  type EdgeOptions,
  eventually,
  Fleet,
  type Kv,
  Origin,
  sendRaw,
  sleep,
  throughout,
  Traffic,
  until,
  useFleet,
  useOrigin,
  useTraffic,
} from './support.ts';

const keys = keyPair();
const untrustedKeys = keyPair();
/** During a key rotation, the old key and the new key are both trusted. */
const newKeys = keyPair();
const VARS = { PUBLIC_KEYS: `${keys.publicKey}, ${newKeys.publicKey}`, ADMIN_TOKEN };

const origin = useOrigin(Origin.ok);

const good = makeBundle({ lantern_red: 22 });
/** A bundle that is never adopted, because each release that names it is invalid. */
const next = makeBundle({ lantern_red: 30 });

const regex = (pattern: string) => [
  signature('broken_regex', 20, {
    regex: { pattern, required_literals: [{ alternatives: ['hedge'], min_distance: 0 }] },
  }),
];
const bad = {
  large: makeBundle(
    {},
    {
      lists: [
        { name: 'list_large', title: 'x'.repeat(6 << 20), kind: 'address', weight: 1, entries: [] },
      ],
    },
  ),
  many: makeBundle(
    {},
    { signatures: Array.from({ length: 50_000 }, (_, number) => signature(`many_${number}`, 1)) },
  ),
  /** `half` and `otherHalf` are each valid, but together they are too large for one release. */
  half: makeBundle(
    { lantern_red: 22 },
    {
      lists: [
        { name: 'list_half', title: 'x'.repeat(3 << 20), kind: 'address', weight: 1, entries: [] },
      ],
    },
  ),
  otherHalf: makeBundle(
    { lantern_red: 23 },
    {
      lists: [
        { name: 'list_half', title: 'x'.repeat(3 << 20), kind: 'address', weight: 1, entries: [] },
      ],
    },
  ),
  /** Too many lists, in a bundle that is smaller than 5 MiB. */
  lists: makeBundle(
    {},
    {
      lists: Array.from({ length: 50_000 }, (_, number) => ({
        name: `l${number}`,
        title: '',
        kind: 'address',
        weight: 1,
        entries: [],
      })),
    },
  ),
  regex: makeBundle({}, { signatures: regex('hedge(') }),
  largeRegex: makeBundle(
    {},
    { signatures: regex('hedge\\w{1,500}\\w{1,500}\\w{1,500}\\w{1,500}') },
  ),
  future: makeBundle({ lantern_red: 22 }, { format: 2 }),
  policy: makeBundle(
    { lantern_red: 22 },
    { policy: { bands: { notice: 90, suspect: 50, hostile: 10 } } },
  ),
};
const tampered = (text: string) => text.replace('lantern', 'lantorn').replace('"ana"', '"eve"');

// --- Directly in KV -----------------------------------------------------------------------------

/**
 * Values that an intruder or an incomplete write leaves in KV while release 5 is active, and the
 * messages with which isolates reject them.
 */
const REJECTED: [name: string, write: (kv: Kv) => Promise<unknown>, message: RegExp][] = [
  [
    'a release signed with an untrusted key',
    (kv) => putRelease(kv, untrustedKeys, makeManifest(6, good)),
    /release: .*not (accepted|trusted)/,
  ],
  [
    'a release with one changed byte',
    (kv) =>
      kv.put('release', tampered(makeManifest(6, good)), {
        metadata: { signature: minisign(keys, makeManifest(6, good), 'hedgerow release 6') },
      }),
    /release: .*signature does not/,
  ],
  [
    'a bundle with one changed byte',
    async (kv) => {
      await putSigned(kv, `bundle/${next.digest}`, {
        ...signBundle(keys, next),
        text: tampered(next.text),
      });
      await putRelease(kv, keys, makeManifest(6, next));
    },
    new RegExp(`bundle ${next.digest.slice(0, 8)}`),
  ],
  [
    'a bundle signed with an untrusted key',
    async (kv) => {
      await putSigned(kv, `bundle/${next.digest}`, signBundle(untrustedKeys, next));
      await putRelease(kv, keys, makeManifest(6, next));
    },
    /bundle .*not (accepted|trusted)/,
  ],
  [
    'a release with the signature of its bundle',
    (kv) =>
      putSigned(kv, 'release', {
        text: makeManifest(6, good),
        signature: signBundle(keys, good).signature,
      }),
    /release: .*signature does not/,
  ],
  [
    'a bundle with the signature of its release',
    async (kv) => {
      await putSigned(kv, `bundle/${next.digest}`, {
        text: next.text,
        signature: signRelease(keys, makeManifest(6, next)).signature,
      });
      await putRelease(kv, keys, makeManifest(6, next));
    },
    /bundle .*signature does not/,
  ],
  [
    'a bundle instead of a release',
    (kv) => putSigned(kv, 'release', signBundle(keys, good)),
    /release/,
  ],
  [
    'an older release with its valid signature',
    (kv) => putRelease(kv, keys, makeManifest(4, good)),
    /4 is older than 5/,
  ],
  [
    'another release of the same serial',
    (kv) => putRelease(kv, keys, makeManifest(5, good, { note: 'another' })),
    /another release 5/,
  ],
  [
    'a release that expired two days ago',
    (kv) => putRelease(kv, keys, makeManifest(6, good, { expires: epochSeconds(-2 * DAY) })),
    /expired/,
  ],
  [
    'a truncated release',
    async (kv) =>
      kv.put('release', makeManifest(6, good).slice(0, 40), {
        metadata: { signature: signRelease(keys, makeManifest(6, good)).signature },
      }),
    /release/,
  ],
  [
    'a release without its signature',
    (kv) => kv.put('release', makeManifest(6, good)),
    /release.*signature/,
  ],
  [
    'a release with a malformed signature',
    (kv) => kv.put('release', makeManifest(6, good), { metadata: { signature: 'noise' } }),
    /minisign signature/,
  ],
  [
    'a release with other metadata',
    (kv) => kv.put('release', makeManifest(6, good), { metadata: [1, 2] }),
    /KV|signature/,
  ],
  [
    'an empty release',
    (kv) =>
      putSigned(kv, 'release', { text: '', signature: minisign(keys, '', 'hedgerow release 6') }),
    /release/,
  ],
  [
    'a release of a newer format',
    (kv) => putRelease(kv, keys, makeManifest(6, good, { release: 2 })),
    /newer/,
  ],
  [
    'a bundle without its signature',
    async (kv) => {
      await kv.put(`bundle/${next.digest}`, next.text);
      await putRelease(kv, keys, makeManifest(6, next));
    },
    /signature/,
  ],
  [
    'a truncated bundle',
    async (kv) => {
      await putSigned(kv, `bundle/${next.digest}`, {
        ...signBundle(keys, next),
        text: next.text.slice(0, 100),
      });
      await putRelease(kv, keys, makeManifest(6, next));
    },
    /bundle/,
  ],
  [
    'a release whose bundle is missing',
    (kv) => putRelease(kv, keys, makeManifest(6, next)),
    /not in KV/,
  ],
  [
    'a release whose canary is missing',
    (kv) =>
      putRelease(kv, keys, makeManifest(6, good, { canary: { digest: next.digest, percent: 50 } })),
    /not in KV/,
  ],
  [
    'a release whose shadow is missing',
    (kv) => putRelease(kv, keys, makeManifest(6, good, { shadow: { digest: next.digest } })),
    /not in KV/,
  ],
  [
    'a release of 24 MiB, which is not read,',
    (kv) => kv.put('release', 'x'.repeat(24 << 20), { metadata: { signature: 'noise' } }),
    /'release' in KV has 25165824 bytes/,
  ],
  [
    'bundles that are too large together',
    (kv) =>
      putRelease(
        kv,
        keys,
        makeManifest(6, bad.half, { shadow: { digest: bad.otherHalf.digest } }),
        bad.half,
        bad.otherHalf,
      ),
    /5 MiB together/,
  ],
  [
    'a bundle of 6 MiB',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.large), bad.large),
    /more than 5120 KiB/,
  ],
  [
    '50,000 signatures',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.many), bad.many),
    /more than 5120 KiB|signatures/,
  ],
  [
    '50,000 lists in 5 MiB',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.lists), bad.lists),
    /50000 signatures and lists/,
  ],
  [
    'an invalid regex',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.regex), bad.regex),
    /regex|hedge\(/,
  ],
  [
    'a regex that compiles to too many bytes',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.largeRegex), bad.largeRegex),
    /regex|hedge/,
  ],
  [
    'a bundle of a newer format',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.future), bad.future),
    /newer/,
  ],
  [
    'an invalid policy',
    (kv) => putRelease(kv, keys, makeManifest(6, bad.policy), bad.policy),
    /bands/,
  ],
];

/** Unusual but valid releases. */
const ADOPTED: [name: string, members: object, signer?: KeyPair][] = [
  ['was made by a clock that is a day ahead', { created: epochSeconds(DAY) }],
  ['was made by a clock that is a day behind', { created: epochSeconds(-DAY) }],
  ['was made in 1970', { created: 0 }],
  ['expired 23 hours ago, within the tolerated clock skew', { expires: epochSeconds(3600 - DAY) }],
  ['expires in a day', { expires: epochSeconds(DAY) }],
  ['is signed with the new key', {}, newKeys],
];

/** Incomplete deployments. */
const INCOMPLETE: [name: string, options: EdgeOptions][] = [
  ['the binding RULES', { without: ['RULES'] }],
  ['PUBLIC_KEYS', { vars: { PUBLIC_KEYS: undefined } }],
  ['a valid PUBLIC_KEYS', { vars: { PUBLIC_KEYS: 'RWQ nonsense' } }],
];

describe('directly in KV', () => {
  /** Number of isolates that run cases concurrently, each with its own KV namespace. */
  const LANES = 8;
  const lanes = Array.from({ length: LANES }, (_, lane) => ({ rules: `rules-${lane}` }));
  /** The isolates of the lanes, one more isolate with its own KV namespace, and incomplete ones. */
  const edges = [
    ...lanes,
    { rules: 'rules-alone' },
    ...INCOMPLETE.map(([, edge]) => edge),
    { vars: { MIN_SERIAL: '9' } },
  ];
  const fleet = useFleet({ origin, edges, vars: { ...VARS, REFRESH_SECONDS: '0' } });
  const traffic = new Traffic(fleet.edges, 100);
  const release5 = makeManifest(5, good);
  let embedded: string;
  const outcomes: {
    refused: string;
    version: object;
    response: { status: number; ruleset: string | null; band: string | null };
  }[] = [];
  const rejection = async (edge: Edge) =>
    ((await (await edge.health()).json()) as { rejection: string | null }).rejection;
  const untilRejection = (edge: Edge, isRejected: boolean) =>
    eventually(isRejected ? 'a rejection' : 'the end of the rejection', async () => {
      await edge.ask();
      const message = await rejection(edge);
      if ((message !== null) !== isRejected) throw new Error(`refused: ${message}`);
      return message!;
    });

  /**
   * Runs the cases of a lane one after another, each after a valid release. Leaves the value of the
   * last case in KV, so that the isolate tries to load it repeatedly.
   */
  async function runLane(lane: number) {
    const [edge, kv] = [fleet.edges[lane]!, await fleet.kv(lane)];
    for (let index = lane; index < REJECTED.length; index += LANES) {
      await REJECTED[index]![1](kv);
      outcomes[index] = {
        refused: await untilRejection(edge, true),
        version: await edge.version(),
        response: await edge.ask(phrase('lantern_red')),
      };
      if (index + LANES >= REJECTED.length) return;
      await putRelease(kv, keys, release5);
      await kv.delete(`bundle/${next.digest}`);
      await untilRejection(edge, false);
    }
  }

  beforeAll(async () => {
    embedded = (await fleet.edges.at(-1)!.version()).ruleset;
    for (let number = 0; number <= LANES; number++)
      await putRelease(await fleet.kv(number), keys, release5, good);
    await putRelease(await fleet.kv(), keys, release5, good);
    await fleet.untilRelease(5, fleet.edges.slice(0, LANES + 1));
    traffic.start();
    await Promise.all(lanes.map((_, lane) => runLane(lane)));
  });
  afterAll(() => traffic.stop());

  it.each(REJECTED.map(([name, , message], index) => ({ name, message, index })))(
    '$name is rejected',
    ({ message, index }) => {
      const { refused, version, response } = outcomes[index]!;
      expect(refused).toMatch(message);
      expect(refused.length).toBeLessThan(400);
      expect(version).toMatchObject({ release: 5, ruleset: good.digest });
      expect([response.status, response.ruleset, response.band]).toEqual([
        200,
        good.digest,
        'suspect',
      ]);
    },
  );

  it.each(INCOMPLETE.map(([name], index) => ({ name, index: LANES + 1 + index })))(
    'without $name the embedded rules decide, and health warns',
    async ({ name, index }) => {
      const edge = fleet.edges[index]!;
      await edge.ask();
      const response = await edge.ask();
      expect([response.status, response.ruleset]).toEqual([200, embedded]);
      const { warnings } = (await (await edge.health()).json()) as {
        warnings: { message: string; remedy: string }[];
      };
      expect(warnings).toContainEqual({
        message: expect.stringContaining(name.includes('RULES') ? 'RULES' : 'PUBLIC_KEYS'),
        remedy: expect.stringMatching(/\w+/),
      });
    },
  );

  it('MIN_SERIAL keeps a new isolate from adopting an old release', async () => {
    const edge = fleet.edges.at(-1)!;
    expect(await untilRejection(edge, true)).toMatch(/5 is older than 9/);
    expect((await edge.ask()).ruleset).toBe(embedded);
    await putRelease(await fleet.kv(), keys, makeManifest(9, good));
    await fleet.untilRelease(9, [edge]);
  });

  it('each rejection was logged once, and no request failed', async () => {
    const lines = () =>
      fleet
        .logLines('hedgerow.rules')
        .filter(
          ({ event, error }) =>
            event === 'rejected' && !/RULES|PUBLIC_KEYS|public key|older than 9/.test(error),
        );
    const expectOneLineEach = async () =>
      expect(
        lines()
          .map(({ error }) => error)
          .sort(),
      ).toEqual(outcomes.map(({ refused }) => refused).sort());
    await eventually('the log lines', expectOneLineEach);
    // The isolates try again after one second, and must not log the rejection a second time.
    await throughout(1500, expectOneLineEach);
    for (const line of lines())
      expect(line).toEqual({
        log: 'hedgerow.rules',
        event: 'rejected',
        serial: 5,
        ruleset: expect.toBeOneOf([null, expect.any(String)]),
        error: expect.any(String),
      });
    // `/status` also reports the rejections.
    await eventually('the reports', async () => {
      const { errors } = (await new Admin(fleet.edges[LANES]!, ADMIN_TOKEN).status('?minutes=10'))
        .traffic;
      const reported = errors.map(({ message }: { message: string }) => message);
      for (const { refused } of outcomes) expect(reported).toContain(`rules: ${refused}`);
    });
    expect(traffic.failures).toEqual([]);
    const responses = traffic.responses.filter(({ edge }) => edge < LANES);
    expect(new Set(responses.map(({ edge }) => edge)).size).toBe(LANES);
    expect([...new Set(responses.map(({ ruleset }) => ruleset))]).toEqual([good.digest]);
  });

  // The tests below share one isolate, and publish one release after another.
  const isolate = async () => [fleet.edges[LANES]!, await fleet.kv(LANES)] as const;

  it.each(
    ADOPTED.map(([name, members, signer = keys], index) => ({
      name,
      members,
      signer,
      serial: 6 + index,
    })),
  )('a release is adopted that $name', async ({ members, signer, serial }) => {
    const [edge, kv] = await isolate();
    await putRelease(kv, signer, makeManifest(serial, good, members));
    await fleet.untilRelease(serial, [edge]);
    expect(await rejection(edge)).toBeNull();
  });

  // Regression: the backoff after a rejected release also delayed newer releases.
  it('a valid release after repeated rejections is adopted without delay', async () => {
    const [edge, kv] = await isolate();
    const serial = (await edge.version()).release! + 1;
    await putRelease(kv, keys, makeManifest(serial, next));
    // Repeats requests for eight seconds, so that the backoff grows beyond the time that a release
    // normally takes.
    const end = performance.now() + 8_000;
    while (performance.now() < end) await edge.ask().then(() => sleep(50));
    expect(await rejection(edge)).toMatch(/not in KV/);
    await putRelease(kv, keys, makeManifest(serial + 1, good));
    await fleet.untilRelease(serial + 1, [edge]);
    expect(await rejection(edge)).toBeNull();
  });

  it('values that are too large to be read take no memory', async () => {
    const memory = await Promise.all(
      fleet.edges
        .slice(0, LANES)
        .map(
          async (edge) =>
            ((await (await edge.health()).json()) as { memory_bytes: number }).memory_bytes,
        ),
    );
    for (const bytes of memory) expect(bytes).toBeLessThan(48 << 20);
  });

  it('deleting the release from KV keeps it in force, and is not an error', async () => {
    const [edge, kv] = await isolate();
    const { release } = await edge.version();
    await kv.delete('release');
    for (let count = 0; count < 3; count++) await edge.ask();
    expect([await rejection(edge), (await edge.version()).release]).toEqual([null, release]);
  });

  it('when the release in force expires, the embedded rules decide', async () => {
    const [edge, kv] = await isolate();
    await putRelease(kv, keys, makeManifest(20, good, { expires: epochSeconds(3 - DAY) }));
    await fleet.untilRelease(20, [edge]);
    await eventually('the embedded rules', async () =>
      expect((await edge.ask()).ruleset).toBe(embedded),
    );
    expect(await edge.version()).toMatchObject({ release: null, ruleset: embedded });
    const expiries = () =>
      fleet.logLines('hedgerow.rules').filter(({ event }) => event === 'expired');
    await until('the log line', () => expiries().length > 0);
    for (let count = 0; count < 5; count++) await edge.decision(await edge.ask());
    expect(expiries()).toEqual([
      expect.objectContaining({ serial: 20, error: expect.any(String) }),
    ]);
    expect(traffic.failures).toEqual([]);
  });
});

// --- Through the API ----------------------------------------------------------------------------

describe('through the API', () => {
  const fleet = useFleet({ origin, edges: [{}, {}, { without: ['REGISTRY'] }], vars: VARS });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);
  beforeAll(async () => {
    await admin.release(keys, 5, good);
    await fleet.untilRelease(5);
  });
  const traffic = useTraffic(fleet.edges, 50);

  const put = (text: string, digest: string, signature: string) =>
    admin.call('PUT', `/bundles/${digest}`, { bundle: text, signature });
  const upload = (bundle: Bundle) => admin.upload(keys, bundle);
  const post = (text: string, signature: string) =>
    admin.call('POST', '/releases', { release: text, signature });
  const release = (text: string) => admin.publish(keys, text);

  const ROWS: [name: string, call: () => Promise<AdminResponse>, status: number, code: string][] = [
    [
      'a bundle signed with an untrusted key',
      () => admin.upload(untrustedKeys, next),
      422,
      'signature',
    ],
    [
      'a bundle with one changed byte',
      () => put(tampered(next.text), next.digest, signBundle(keys, next).signature),
      422,
      'digest',
    ],
    [
      'a bundle with the signature of its release',
      () => put(next.text, next.digest, signRelease(keys, makeManifest(6, next)).signature),
      422,
      'signature',
    ],
    [
      'a bundle with a malformed signature',
      () => put(next.text, next.digest, 'noise'),
      422,
      'signature',
    ],
    ['a bundle of 6 MiB', () => upload(bad.large), 422, 'bundle'],
    ['50,000 lists in 5 MiB', () => upload(bad.lists), 422, 'bundle'],
    ['an invalid regex', () => upload(bad.regex), 422, 'bundle'],
    ['a regex that compiles to too many bytes', () => upload(bad.largeRegex), 422, 'bundle'],
    ['a bundle of a newer format', () => upload(bad.future), 422, 'bundle'],
    ['an invalid policy', () => upload(bad.policy), 422, 'bundle'],
    [
      'a release signed with an untrusted key',
      () => admin.publish(untrustedKeys, makeManifest(6, good)),
      422,
      'signature',
    ],
    [
      'a release with one changed byte',
      () =>
        post(tampered(makeManifest(6, good)), signRelease(keys, makeManifest(6, good)).signature),
      422,
      'signature',
    ],
    [
      'a release with the signature of its bundle',
      () => post(makeManifest(6, good), signBundle(keys, good).signature),
      422,
      'signature',
    ],
    [
      'a bundle instead of a release',
      () => post(good.text, signBundle(keys, good).signature),
      422,
      'release',
    ],
    [
      'a release of a bundle that is not stored',
      () => release(makeManifest(6, next)),
      422,
      'unknown_bundle',
    ],
    [
      'a canary that is not stored',
      () => release(makeManifest(6, good, { canary: { digest: next.digest, percent: 10 } })),
      422,
      'unknown_bundle',
    ],
    [
      'a release that expired two days ago',
      () => release(makeManifest(6, good, { expires: epochSeconds(-2 * DAY) })),
      422,
      'release',
    ],
    [
      'a canary of 0 percent',
      () => release(makeManifest(6, good, { canary: { digest: good.digest, percent: 0 } })),
      422,
      'release',
    ],
    [
      'a release of a newer format',
      () => release(makeManifest(6, good, { release: 2 })),
      422,
      'release',
    ],
    [
      'an older release with its valid signature',
      () => release(makeManifest(4, good)),
      409,
      'serial',
    ],
    [
      'another release of the same serial',
      () => release(makeManifest(5, good, { note: 'another' })),
      409,
      'serial',
    ],
    [
      'a body that is not JSON',
      () => admin.call('POST', '/releases', '{"release":'),
      400,
      'invalid',
    ],
    ['a body of other JSON', () => admin.call('POST', '/releases', { release: 7 }), 400, 'invalid'],
  ];

  it.each(ROWS)('%s is rejected without effect', async (_, call, status, code) => {
    const response = await call();
    const { body } = response;
    expect([response.status, body.error]).toEqual([
      status,
      {
        code,
        message: expect.stringMatching(/\w/),
        remedy: expect.stringMatching(/\w/),
        ...(code === 'serial' && { serial: 5 }),
      },
    ]);
    expect(body.error.message.length).toBeLessThan(500);
    expect(await admin.getOk('/releases/current')).toMatchObject({ serial: 5 });
    expect(
      (await admin.getOk('/bundles')).bundles.map(({ digest }: { digest: string }) => digest),
    ).toEqual([good.digest]);
  });

  it('a body of 13 MiB is rejected before it is read', async () => {
    const head = [
      `PUT /_hedgerow/v1/bundles/${good.digest} HTTP/1.1`,
      'host: edge',
      `authorization: Bearer ${ADMIN_TOKEN}`,
      'content-type: application/json',
      `content-length: ${13 << 20}`,
      '',
      '',
    ].join('\r\n');
    const { status, text } = await sendRaw(fleet.edge.port, [head, '{"bundle":"']);
    expect([status, JSON.parse(text.split('\r\n\r\n')[1]!).error.code]).toEqual([413, 'too_large']);
  });

  it('without the binding REGISTRY the API is 503, and the release is in force', async () => {
    const withoutRegistry = new Admin(fleet.edges[2]!, ADMIN_TOKEN);
    for (const path of ['/releases', '/bundles', '/audit']) {
      const { status, body } = await withoutRegistry.get(path);
      expect([status, body.error]).toEqual([
        503,
        {
          code: 'unavailable',
          message: expect.stringContaining('REGISTRY'),
          remedy: expect.stringContaining('wrangler.toml'),
        },
      ]);
    }
    expect((await withoutRegistry.publish(keys, makeManifest(6, good))).status).toBe(503);
    expect((await fleet.edges[2]!.ask()).ruleset).toBe(good.digest);
  });

  it('clock skew of a day is tolerated', async () => {
    let serial = 5;
    for (const members of [
      { created: epochSeconds(DAY), expires: epochSeconds(DAY) },
      { created: epochSeconds(-DAY), expires: epochSeconds(3600 - DAY) },
    ]) {
      expect((await release(makeManifest(++serial, good, members))).status).toBe(201);
    }
    await fleet.untilRelease(serial);
  });

  it('of concurrent releases with the same serial exactly one is accepted', async () => {
    const { serial } = await admin.getOk('/releases/current');
    const admins = fleet.edges.slice(0, 2).map((edge) => new Admin(edge, ADMIN_TOKEN));
    for (let round = 1; round <= 3; round++) {
      const responses = await Promise.all(
        [0, 1, 2, 3].map((number) =>
          admins[number % 2]!.publish(
            keys,
            makeManifest(serial + round, good, { note: `of ${number}` }),
          ),
        ),
      );
      const conflicts = responses.filter(({ status }) => status === 409);
      expect(responses.filter(({ status }) => status === 201 || status === 202)).toHaveLength(1);
      expect(conflicts).toHaveLength(3);
      for (const { body } of conflicts)
        expect(body.error).toMatchObject({ code: 'serial', serial: serial + round });
      const winner = responses.findIndex(({ status }) => status < 300);
      expect((await admin.getOk('/releases/current')).release.note).toBe(`of ${winner}`);
    }
    await fleet.untilRelease(serial + 3);
  });

  it(
    'a thousand guesses of a token are slow, fail, and delay nobody else',
    async () => {
      const before = fleet.logs.length;
      const guess = (number: number) =>
        `guessed-token-of-nobody-${String(number).padStart(4, '0')}`;
      const numbers = Array.from({ length: 1000 }, (_, number) => number);
      const responses: AdminResponse[] = [];
      let pending = 0;
      const guessers = Array.from({ length: 500 }, async () => {
        for (let number = numbers.pop(); number !== undefined; number = numbers.pop()) {
          pending++;
          responses.push(
            await new Admin(fleet.edge, guess(number), { 'cf-connecting-ip': '203.0.113.77' }).get(
              '/releases/current',
            ),
          );
          pending--;
        }
      });
      await until('the first response to a guess', () => responses.length > 0);
      const [authorized, scored] = [await admin.get('/releases/current'), await fleet.edge.ask()];
      expect(pending).toBeGreaterThan(0);
      expect([authorized.status, scored.status]).toEqual([200, 200]);
      await Promise.all(guessers);
      expect(responses).toHaveLength(1000);
      const [wrong, throttled] = [401, 429].map((status) =>
        responses.filter((response) => response.status === status),
      );
      expect(wrong!.length + throttled!.length).toBe(1000);
      expect(throttled!.length).toBeGreaterThan(900);
      for (const { headers } of wrong!) expect(headers.get('www-authenticate')).toMatch(/^Bearer/);
      for (const { headers } of throttled!)
        expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      // Every response is delayed, to limit the rate at which tokens can be guessed.
      expect(Math.min(...responses.map(({ ms }) => ms))).toBeGreaterThan(400);
      const logged = () =>
        fleet.logs.slice(before).filter(({ message }) => !message.includes('hedgerow.decision'));
      await until('a log line', () => logged().length > 0);
      // The isolate reports failures to the registry only after its responses.
      const [entries, auth] = await eventually('an audit entry', async () => {
        const { entries } = await admin.getOk('/audit?limit=500');
        const auth = entries.filter(({ action }: { action: string }) => action === 'auth');
        expect(auth.length).toBeGreaterThan(0);
        return [entries, auth];
      });
      // Within a minute, only the failures 1, 2, 4, 8 and so on are logged. The guesses can extend
      // over two minutes.
      expect(logged().length).toBeLessThanOrEqual(20);
      expect(JSON.stringify([logged(), entries])).not.toMatch(/guessed-token|203\.0\.113\.77/);
      expect(auth.length).toBeLessThan(15);
      expect(auth[0]).toMatchObject({
        actor: 'nobody',
        client: expect.stringMatching(/^[0-9a-f]{16}$/),
      });
    },
  );

  it('no request failed meanwhile', async () => {
    await traffic.stop();
    expect(traffic.failures).toEqual([]);
    expect(traffic.rulesets()).toEqual([good.digest]);
  });
});

it('without PUBLIC_KEYS nothing can be published, and the API names the reason', async () => {
  const fleet = await Fleet.start({ origin, workers: 1, vars: { ADMIN_TOKEN } });
  try {
    const admin = new Admin(fleet.edge, ADMIN_TOKEN);
    for (const call of [
      () => admin.upload(keys, good),
      () => admin.publish(keys, makeManifest(1, EMBEDDED)),
    ]) {
      const { status, body } = await call();
      expect([status, body.error]).toEqual([
        503,
        {
          code: 'unavailable',
          message: expect.stringContaining('PUBLIC_KEYS'),
          remedy: expect.stringMatching(/\w/),
        },
      ]);
    }
    expect((await fleet.edge.ask()).status).toBe(200);
  } finally {
    await fleet.dispose();
  }
});

it('without KV a release is stored, and the API names the missing binding', async () => {
  const fleet = await Fleet.start({
    origin,
    edges: [{ without: ['RULES'] }],
    storeHasRules: false,
    vars: VARS,
  });
  try {
    const admin = new Admin(fleet.edge, ADMIN_TOKEN);
    expect((await admin.upload(keys, good)).status).toBe(201);
    const { status, body } = await admin.publish(keys, makeManifest(1, good));
    expect([status, body]).toEqual([
      202,
      { serial: 1, published: false, problem: 'the binding RULES is missing', stopped: false },
    ]);
    expect((await admin.status()).publication).toMatchObject({
      serial: null,
      pending: 1,
      problem: 'the binding RULES is missing',
    });
    expect((await fleet.edge.ask()).status).toBe(200);
  } finally {
    await fleet.dispose();
  }
});
