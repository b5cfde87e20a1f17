// Functions of the console that need no page: filters, sorting, gravity, proposals for the policy
// and the words of errors.
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ClusterInfo, DecisionRecord } from '../../www/src/api.ts';
import { gravity, linkCount } from '../../www/src/clusters/gravity.ts';
import { sortRows } from '../../www/src/components/sort.ts';
import { explain } from '../../www/src/decisions/explanation.ts';
import { mismatches, similar, toPattern } from '../../www/src/decisions/known.ts';
import { hasGap, MAX_PAGES, readOlder, union } from '../../www/src/decisions/older.ts';
import { requestIdIn } from '../../www/src/decisions/request-id.ts';
import { tickLabel, timeTicks } from '../../www/src/overview/ticks.ts';
import { toPlainError } from '../../www/src/plain-errors.ts';
import { toDecision } from '../../www/src/playground/recorded-decision.ts';
import { Effect, effectOfWeight, scoreWith } from '../../www/src/policy/effect.ts';
import {
  dayInMonths,
  exemptionCommand,
  type ExemptionDraft,
  toToml,
  toWeightToml,
} from '../../www/src/policy/proposals.ts';
import { parseMinutes, parseRange, toEarlierQuery, toQuery } from '../../www/src/range.ts';
import { diffLines } from '../../www/src/rules/line-diff.ts';
import { zones } from '../../www/src/time.ts';

const ID = '01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a';

const decision = (members: object = {}) =>
  ({
    request_id: ID,
    at: Date.UTC(2026, 10, 28, 9, 30),
    account: 'ab'.repeat(16),
    score: 50,
    prior: -20,
    evidence: 20,
    action: 'block',
    band: 'suspect',
    mode: 'enforce',
    enforced: true,
    hits: [
      { name: 'synthesis_pairs', family: 'synthesis', weight: 15, evidence: [] },
      { name: 'synthesis_rows', family: 'synthesis', weight: 5, evidence: [] },
    ],
    contributions: [{ family: 'synthesis', raw: 20, capped: 20 }],
    ...members,
  }) as never as DecisionRecord;

it.each([
  [`x-hedgerow-request-id: ${ID}`, ID],
  [`"X-Request-Id": "${ID.toUpperCase()}",`, ID],
  ['x-request-id: req_011CS', 'req_011CS'],
  ['  "request-id" : "req_011CS" ,', 'req_011CS'],
  ['{"request_id":"req_011CS"}', 'req_011CS'],
  ['{"request_id":"req_011CS","model":"x"}', 'req_011CS'],
  ['request-id=req_011CS; model=x', 'req_011CS'],
  [" 'req_011CS' ", 'req_011CS'],
  ['01991b2c', '01991b2c'],
])('the request id in %s', (text, expected) => {
  expect(requestIdIn(text)).toBe(expected);
});

describe('filters', () => {
  const KNOWN = {
    signature: ['synthesis_pairs', 'synthesis_rows', 'grading_judge'],
    model: ['demo-large', 'demo-small'],
    cluster: ['a5db0001', '5b0f3a91'],
    colo: ['FRA'],
  };

  it.each([
    ['synthesis', '*synthesis*'],
    ['synthesis_pairs', 'synthesis_pairs'],
    ['*pairs', '*pairs'],
    ['5b0f3a91', '5b0f3a91'],
    ['', ''],
  ])('the typed text %s becomes %s', (text, expected) => {
    expect(toPattern(text, KNOWN.signature)).toBe(expected);
  });

  it.each<[Record<string, string>, string[]]>([
    [{ band: 'foo' }, ['clear', 'notice', 'suspect', 'hostile', 'unscored']],
    [{ band: 'hostle' }, ['hostile']],
    [{ action: 'blocks' }, ['block']],
    [{ signature: 'synthesis' }, ['*synthesis*', 'synthesis_pairs', 'synthesis_rows']],
    [{ signature: 'synthesys_pairs' }, ['synthesis_pairs']],
    [{ model: 'DEMO-LARG' }, ['demo-large']],
    [{ cluster: 'a5db' }, ['a5db0001']],
    [{ colo: 'FR*RA' }, ['FRA']],
    [{ colo: 'F.A' }, ['FRA']],
    [{ account: 'sk-shadow' }, []],
    [{ since: '5', until: '5' }, []],
  ])('%j matches nothing, and may mean %j', (filters, expected) => {
    const found = mismatches(filters, KNOWN);
    expect(found.map(({ suggestions }) => suggestions)).toEqual([expected]);
    expect(found[0]!.problem).toMatch(/\.$/);
  });

  it.each<Record<string, string>>([
    { band: 'unscored' },
    { signature: '*PAIRS*' },
    { signature: 'synth*_*s' },
    { signature: '**' },
    { cluster: 'ffffffff,5b0f3a91' },
    { account: '0123abcd' },
    { since: '5', until: '6' },
    { id: 'anything' },
  ])('%j may match', (filters) => {
    expect(mismatches(filters, KNOWN)).toEqual([]);
  });

  it('hostile texts are compared in bounded time', () => {
    const text = '*a'.repeat(5_000);
    const values = Array.from({ length: 300 }, (_, number) => `${'a'.repeat(60)}${number}`);
    expect(similar('('.repeat(10_000), values)).toEqual([]);
    expect(similar(text, values).length).toBeLessThanOrEqual(5);
    // A regular expression would try all ways to divide the value among the stars.
    const [mismatch] = mismatches({ model: `${text}*b` }, { model: ['a'.repeat(20_000)] });
    expect(mismatch).toBeDefined();
    expect(mismatches({ model: `${'*a'.repeat(7)}*b` }, { model: values })).toHaveLength(1);
  });
});

it('rows without a value come last in both directions', () => {
  const rows = [2, null, 10, 1];
  const sorted = (descending: boolean) => sortRows(rows, (row) => row, descending);
  expect([sorted(true), sorted(false)]).toEqual([
    [10, 2, 1, null],
    [1, 2, 10, null],
  ]);
});

describe('the gravity of a cluster', () => {
  const cluster = (accounts: number, by_band: object, age = 0) =>
    ({ accounts, last: 1_000_000 - age, traffic: { by_band } }) as never as ClusterInfo;
  const points = (info: ClusterInfo) => gravity(info, 1_000_000);

  it('grows with accounts and suspicious requests, and falls with time', () => {
    const base = points(cluster(10, { suspect: 99, clear: 5 }));
    expect(base).toBeCloseTo(30, 5);
    expect(points(cluster(20, { suspect: 99 })) - base).toBeCloseTo(3.01, 2);
    expect(points(cluster(10, { suspect: 199 })) - base).toBeCloseTo(3.01, 2);
    expect(points(cluster(10, { hostile: 49.5 }))).toBeCloseTo(base, 5);
    expect(points(cluster(10, { clear: 10_000 }))).toBeCloseTo(10, 5);
    expect(points(cluster(10, { suspect: 99 }, 86_400))).toBeCloseTo(base - 3, 5);
    expect(points(cluster(2, {}, 10 * 86_400))).toBe(0);
    expect(points({ ...cluster(10, {}), traffic: null })).toBeCloseTo(10, 5);
  });

  it('the number of links says when it is capped', () => {
    expect([linkCount({ keys: 63 }), linkCount({ keys: 64 })]).toEqual(['63', '64+']);
  });
});

describe('the effect of another weight', () => {
  it.each([
    ['the same', 15, {}, 50],
    ['less', 5, {}, 9.09],
    ['more, as an upper limit', 25, {}, 90.91],
    ['a capped family stays at its cap', 12, { raw: 20, capped: 15 }, 50],
    ['a capped family falls below its cap', 5, { raw: 20, capped: 15 }, 9.09],
  ])('%s', (_, weight, contribution, expected) => {
    const evidence = (contribution as { capped?: number }).capped ?? 20;
    const contributions = [{ family: 'synthesis', raw: 20, capped: 20, ...contribution }];
    const changed = decision({ evidence, contributions });
    expect(scoreWith(changed, 'synthesis_pairs', weight)).toBeCloseTo(expected, 1);
  });

  it('is null without a score, and nothing for other signatures', () => {
    expect(scoreWith(decision({ score: null }), 'synthesis_pairs', 1)).toBeNull();
    expect(effectOfWeight([decision()], 'grading_judge', 1)).toMatchObject({ changed: 0 });
    const { requests, changed, lower } = effectOfWeight([decision()], 'synthesis_pairs', 1);
    expect([requests, changed, lower]).toEqual([1, 1, [0, 0, 1]]);
  });

  it('lists changes of the action before shifts, and bounds the list', () => {
    const effect = new Effect();
    for (let number = 0; number < 1_000; number++) {
      effect.add({ request: `${number}`, from: { score: 10 }, to: { score: 10 + number / 100 } });
    }
    const from = { score: 50, action: 'tag' } as const;
    effect.add({ request: 'action', from, to: { score: 50, action: 'block' } });
    expect(effect.requests).toBe(1_001);
    expect(effect.changed).toBe(996);
    expect(effect.higher).toEqual([496, 499, 0]);
    const names = effect.changes.map(({ request }) => request);
    expect([names.length, ...names.slice(0, 3)]).toEqual([50, 'action', '999', '998']);
  });
});

describe('proposals for the policy', () => {
  afterEach(() => vi.unstubAllEnvs());
  const DRAFT: ExemptionDraft = {
    kind: 'accounts',
    name: '',
    reason: 'a partner',
    until: '2027-01-31',
    ids: ['ab'.repeat(16), 'cd'.repeat(16)],
    signatures: [],
  };

  it('an exemption is named after its account, not after a cluster', () => {
    const names = [...toToml(DRAFT).matchAll(/name = "(.*)"/g)].map(([, name]) => name);
    expect(names).toEqual(['account-abababababab', 'account-cdcdcdcdcdcd']);
    expect(exemptionCommand(DRAFT)).toContain('"exemption account-abababababab and 1 more"');
    const tenants = toToml({ ...DRAFT, kind: 'tenants', name: 'acme', signatures: ['one_two'] });
    expect(tenants).toContain('name = "acme-2"\ntenant = "cdcd');
    expect(tenants).toContain('signatures = ["one_two"]');
  });

  it.each([
    ['2026-11-30T23:30:00-05:00', 0, '2026-12-01'],
    ['2026-11-30T12:00:00Z', 3, '2027-02-28'],
    ['2026-12-01T00:30:00+01:00', 1, '2026-12-30'],
  ])('the day of %s in %d months is in UTC', (now, months, expected) => {
    vi.stubEnv('TZ', 'Pacific/Auckland');
    expect(dayInMonths(months, Date.parse(now))).toBe(expected);
  });

  it('a weight of 0 switches a signature off', () => {
    expect(toWeightToml('one_two', 5)).toBe('[[signature]]\nname = "one_two"\nweight = 5.0\n');
    expect(toWeightToml('one_two', -2.5)).toContain('weight = -2.5');
    expect(toWeightToml('one_two', 0)).toContain('off = true');
  });
});

describe('the explanation for a customer', () => {
  const families = ['evasion', 'grading', 'provenance', 'cluster', 'synthesis'];
  const contributions = families.map((family, at) => ({ family, raw: 9, capped: 9 - at }));

  it('names the time, the request, at most two kinds of behaviour, and how to appeal', () => {
    const text = explain(decision({ contributions }));
    expect(text).toContain('Time: 2026-11-28 09:30:00 UTC');
    expect(text).toContain(ID);
    expect(text).toContain('refused');
    expect(text.match(/^- /gm)).toHaveLength(2);
    expect(text).toContain('grades');
    expect(text).toContain('appeal');
  });

  it('has no signature, family, weight, score, band or account', () => {
    const text = explain(decision({ contributions }));
    for (const secret of [...families, 'synthesis_pairs', 'suspect', 'ab'.repeat(16), '15', 'dB']) {
      if (secret !== 'cluster') expect(text).not.toContain(secret);
    }
  });

  it.each([
    [{ enforced: true, degraded: 'edited' }, /removed some parameters/],
    [{ enforced: false, mode: 'shadow' }, /answered as usual/],
    [{ action: 'allow', enforced: false }, /answered as usual/],
    [{ incomplete: 'encoding' }, /could not be read/],
    [{ score: null, band: null }, /refused, because it could not be checked/],
    [{ score: null, band: null, enforced: false }, /answered as usual/],
    [{ enforced: undefined }, /check refused/],
    [{ enforced: undefined, action: 'throttle' }, /check refused/],
    [{ enforced: undefined, action: 'degrade', degraded: 'edited' }, /removed some parameters/],
    [{ enforced: undefined, action: 'degrade', degraded: 'unchanged' }, /answered as usual/],
    [{ enforced: undefined, action: 'tag' }, /answered as usual/],
    [{ enforced: undefined, mode: 'shadow' }, /answered as usual/],
    [{ enforced: undefined, score: null, band: null }, /refused, because/],
    [{ enforced: undefined, score: null, band: null, action: 'allow' }, /answered as usual/],
  ])('%j', (members, expected) => {
    expect(explain(decision(members))).toMatch(expected);
  });
});

describe('older decisions', () => {
  const [first, second] = [decision(), decision({ request_id: ID.replace('0', '1') })];
  const found = (next?: string) => ({ decisions: [first], next });
  const empty = (next?: string) => ({ decisions: [], next });

  it.each([
    ['the first page has one', [found('b')], ['a'], found('b')],
    ['a later page has one', [empty('b'), empty('c'), found()], ['a', 'b', 'c'], found()],
    ['all pages are empty', [empty('b'), empty()], ['a', 'b'], empty()],
  ])('are searched page by page: %s', async (_, pages, asked, expected) => {
    const read = vi.fn((before: string) => Promise.resolve(pages[asked.indexOf(before)]!));
    expect(await readOlder(read, 'a')).toEqual(expected);
    expect(read.mock.calls.flat()).toEqual(asked);
  });

  it('are searched on a bounded number of pages, after which a search continues', async () => {
    const read = vi.fn((before: string) => Promise.resolve(empty(`${before}'`)));
    const { decisions, next } = await readOlder(read, 'a');
    expect([decisions, next]).toEqual([[], `a${"'".repeat(MAX_PAGES)}`]);
    expect(read).toHaveBeenCalledTimes(MAX_PAGES);
  });

  it.each([
    ['the new page has one of them', [second, first], 'b', false],
    ['the new page ends before them', [second], 'b', true],
    ['the new page is the last one', [second], undefined, false],
    ['the new page is empty', [], 'b', false],
  ])('have a gap or not: %s', (_, decisions, next, expected) => {
    expect(hasGap({ decisions, next }, found('a'))).toBe(expected);
  });

  it('are listed once', () => {
    expect(union([first], [first, second])).toEqual([first, second]);
    expect(union([], [second])).toEqual([second]);
  });
});

describe('the time range of an address', () => {
  const NOW = 1_764_000_000_000;
  const MINUTE = 60_000;
  const parse = (address: string) => parseRange(new URLSearchParams(address), NOW);

  it.each([
    ['', 60, null],
    ['minutes=360&compare=week', 360, 'week'],
    ['minutes=7', 60, null],
    ['minutes=-60', 60, null],
    ['compare=toString', 60, null],
    [`since=${NOW - 10 * MINUTE}&minutes=360`, 10, null],
    [`since=${NOW - 90 * 1440 * MINUTE}`, 43_200, null],
    [`since=${NOW + MINUTE}`, 60, null],
  ])('%s has %d minutes', (address, minutes, compare) => {
    expect(parse(address)).toMatchObject({ minutes, compare });
  });

  it.each([
    ['minutes=360', 360],
    ['minutes=7', null],
    ['minutes=1e3', null],
    ['', null],
  ])('%j ends now, and has %s minutes to choose', (address, expected) => {
    expect(parseMinutes(new URLSearchParams(address))).toBe(expected);
  });

  it.each([
    ['whole minutes', -600, -60, 9, -60],
    ['an end within a minute', -600, -45, 10, 0],
    ['a start within a minute', -630, -60, 10, -60],
    ['both ends', -630, -45, 11, 0],
  ])('is counted by whole minutes: %s', (_, from, to, minutes, until) => {
    const range = parse(`since=${NOW + 1000 * from}&until=${NOW + 1000 * to}`);
    expect(toQuery(range)).toBe(`minutes=${minutes}&until=${NOW + 1000 * until}`);
  });

  it('is compared with the same minutes', () => {
    const until = Date.now() - 1440 * MINUTE;
    const range = parseRange(new URLSearchParams(`since=${until - 90_001}&until=${until}`), until);
    const [minutes, end] = toQuery(range).match(/\d+/g)!.map(Number);
    const earlier = toEarlierQuery({ ...range, compare: 'day' });
    expect(earlier).toBe(`minutes=${minutes}&until=${end! - 1440 * MINUTE}`);
    expect(toEarlierQuery({ minutes: 43_200, compare: 'week' })).toBeNull();
  });

  it('is at most 30 days', () => {
    const range = parse(`since=${NOW - 90 * 1440 * MINUTE}&until=${NOW - 1}`);
    expect(toQuery(range)).toBe(`minutes=43200&until=${NOW}`);
  });
});

describe('the axis of the chart', () => {
  afterEach(() => vi.unstubAllEnvs());
  const seconds = (time: string) => Date.parse(time) / 1000;

  it.each([
    ['Europe/Berlin', '2026-10-22T00:00Z', '2026-10-29T00:00Z', 10, ['00:00'], 7],
    ['Europe/Berlin', '2026-03-26T00:00Z', '2026-04-01T00:00Z', 10, ['00:00'], 6],
    ['Australia/Lord_Howe', '2026-04-02T00:00Z', '2026-04-08T00:00Z', 10, ['00:00'], 6],
    ['Europe/Berlin', '2026-10-24T22:30Z', '2026-10-25T02:30Z', 4, ['01:00', '02:00', '03:00'], 4],
    ['Europe/Berlin', '2026-03-29T00:35Z', '2026-03-29T02:10Z', 4, ['03:00', '03:30', '04:00'], 3],
    ['Asia/Kathmandu', '2026-10-22T00:00Z', '2026-10-22T02:00Z', 2, ['06:00', '07:00'], 2],
  ])('in %s has whole local times from %s to %s', (zone, from, to, count, labels, length) => {
    vi.stubEnv('TZ', zone);
    const ticks = timeTicks(seconds(from), seconds(to), count);
    const shown = [...new Set(ticks.map((tick) => tickLabel(tick, tick)[0]))];
    expect(ticks).toHaveLength(length);
    expect(shown).toEqual(labels);
  });

  it.each([
    ['2026-10-22T00:00Z', '2026-10-24T00:00Z', 'UTC+2'],
    ['2026-10-22T00:00Z', '2026-10-29T00:00Z', 'UTC+2 and UTC+1'],
    ['2026-10-26T00:00Z', '2026-10-29T00:00Z', 'UTC+1'],
  ])('names the zones from %s to %s', (from, to, expected) => {
    vi.stubEnv('TZ', 'Europe/Berlin');
    expect(zones([seconds(from), seconds(to)])).toBe(expected);
  });
});

describe('plain errors', () => {
  afterEach(() => vi.unstubAllGlobals());

  it.each([
    [401, 'unauthorized', 'missing or wrong token', /token is not accepted/],
    [403, 'scope', 'this token only allows reading', /does not allow changes/],
    [429, 'throttled', 'too many attempts with wrong tokens', /too many attempts/],
    [502, 'unreadable', '', /other than Hedgerow.*502/],
    [503, 'unavailable', 'the ledger does not answer', /counts the requests/],
    [503, 'unavailable', 'the registry does not answer', /stores the releases/],
    [503, 'unavailable', 'PUBLIC_KEYS is missing', /PUBLIC_KEYS/],
    [422, 'invalid', 'the reason is missing', /the reason is missing/],
  ])('%d %s: %s', (status, code, message, expected) => {
    const [plain, remedy] = toPlainError(status, code, message, 'Authorization: Bearer …');
    expect(plain).toMatch(expected);
    if ([401, 403, 429, 502].includes(status)) expect(remedy).not.toMatch(/Bearer/);
  });

  it.each([
    [true, /cannot be reached/],
    [false, /offline/],
  ])('without an answer while the network is %s', (onLine, expected) => {
    vi.stubGlobal('navigator', { onLine });
    expect(toPlainError(0, 'offline')[0]).toMatch(expected);
  });
});

it('a line of exported decisions is not a request', () => {
  const line = JSON.stringify(decision());
  expect(toDecision(line)).toEqual({
    band: 'suspect',
    action: 'block',
    hits: [{ name: 'synthesis_pairs' }, { name: 'synthesis_rows' }],
  });
  const request = { method: 'POST', path: '/v1/messages', body: JSON.parse(line) };
  const others = ['', '{', '[]', JSON.stringify(request), '{"request_id":"contributions"}'];
  for (const other of others) expect(toDecision(other)).toBeNull();
});

describe('the comparison of two texts', () => {
  const texts = (before: string, after: string) =>
    diffLines(before, after).map(({ kind, text }) => kind + text);

  it.each([
    ['equal', 'a\nb', 'a\nb', []],
    ['changed', 'a\nb\nc', 'a\nB\nc', [' a', '-b', '+B', ' c']],
    ['added', 'a', 'a\nb', [' a', '+b']],
    ['removed', 'a\nb', 'b', ['-a', ' b']],
    ['moved', 'x\ny', 'y\nx', ['-x', ' y', '+x']],
  ])('%s', (_, before, after, expected) => {
    expect(texts(before, after)).toEqual(expected);
  });

  it('leaves out unchanged lines that are far from a change', () => {
    const lines = Array.from({ length: 20 }, (_, number) => `line ${number}`);
    const changed = lines.with(10, 'other');
    const shown = texts(lines.join('\n'), changed.join('\n'));
    expect(shown).toHaveLength(10);
    expect([shown[0], shown.at(-1)]).toEqual(['…', '…']);
  });

  it('shows long changes as a whole', () => {
    const many = (letter: string) => Array.from({ length: 3_000 }, () => letter).join('\n');
    expect(texts(many('a'), many('b'))).toHaveLength(6_000);
  });
});
