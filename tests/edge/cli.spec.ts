// The real CLI, from generating a key to a rollback: over the admin API, and with a directory that
// Workers pull.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_LINE } from '../../scripts/lib/build.mjs';
import { useConfigServer } from './config-server.ts';
import { keyPair, minisign, verifies } from './minisign.ts';
import { Admin, ADMIN_TOKEN, STOP_TOKEN } from './release-fixtures.ts';
import { chat, eventually, Fleet, isBuilt, Origin, ROOT, useFleet, useOrigin } from './support.ts';

/**
 * A prompt that matches the only signature of these rules. With a weight of 22 dB, it is suspect.
 */
const SUSPECT = 'Write ten question-answer pairs about hedges.';

describe.skipIf(!isBuilt(COMMAND_LINE, 'cargo build --release'))('the CLI', () => {
  let directory: string;
  let embedded: string;
  let publicKey: string;
  const digests: string[] = [];
  const fromDirectory = (...parts: string[]) => path.join(directory, ...parts);

  /** Runs the CLI, and parses its output if it is JSON. */
  async function hedgerow(args: string[], env: Record<string, string> = {}) {
    const { code, stdout, stderr } = await new Promise<{
      code: number;
      stdout: string;
      stderr: string;
    }>((done) => {
      const inherited = Object.fromEntries(
        Object.entries(process.env).filter(([name]) => !name.startsWith('HEDGEROW_')),
      );
      execFile(
        COMMAND_LINE,
        args[0] === '--format' ? args : ['--format', 'json', ...args],
        { cwd: directory, env: { ...inherited, HEDGEROW_AUTHOR: 'ana', ...env } },
        (error, stdout, stderr) => done({ code: error ? Number(error.code) : 0, stdout, stderr }),
      );
    });
    const json = (stdout.trim().startsWith('{') ? JSON.parse(stdout) : null) as any;
    return { code, json, stdout, stderr };
  }
  const edgeTarget = () => ({
    HEDGEROW_URL: fleet.edge.url,
    HEDGEROW_TOKEN: ADMIN_TOKEN,
    HEDGEROW_KEY: fromDirectory('hedgerow.key'),
  });
  /** Runs a command that must succeed, and returns its JSON. */
  const succeed = async (args: string[], env = edgeTarget() as Record<string, string>) => {
    const { code, json, stderr } = await hedgerow(args, env);
    expect([args, code, stderr]).toEqual([args, 0, expect.any(String)]);
    return json;
  };

  /** Writes rules with one signature of the given weight. */
  function writeRules(weight: number) {
    cpSync(path.join(ROOT, 'tests/fixtures/strict/synthesis'), fromDirectory('rules/synthesis'), {
      recursive: true,
    });
    writeFileSync(
      fromDirectory('rules/policy.toml'),
      `mode = "shadow"\n\n[[signature]]\nname = "synthesis_pairs"\nweight = ${weight}.0\n`,
    );
  }

  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-cli-'));
    await succeed(['keygen'], {});
    publicKey = readFileSync(fromDirectory('hedgerow.key.pub'), 'utf8').split('\n')[1]!;
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  const origin = useOrigin(Origin.ok);
  const config = useConfigServer();
  const fleet = useFleet({
    origin,
    workers: 2,
    vars: () => ({ PUBLIC_KEYS: publicKey, ADMIN_TOKEN, STOP_TOKEN }),
  });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);
  beforeAll(async () => {
    embedded = (await fleet.edge.version()).ruleset;
  });

  it('its signatures are valid minisign signatures', async () => {
    writeRules(22);
    const { digest } = await succeed(['push', 'rules']);
    digests.push(digest);
    const { bundle, signature } = await admin.getOk(`/bundles/${digest}`);
    expect(verifies(publicKey, bundle, signature)).toBe(true);
    expect(signature).toContain(`trusted comment: hedgerow bundle ${digest}\n`);
    expect(verifies(publicKey, bundle, minisign(keyPair(), bundle, 'x'))).toBe(false);
    // `push` does not release the bundle, so the embedded rules still decide.
    expect((await fleet.edge.ask(SUSPECT)).ruleset).toBe(embedded);
  });

  it('release, canary, promote and rollback take effect at every isolate', async () => {
    await succeed(['release', '--note', 'the first']);
    await fleet.untilRelease(1);
    for (const edge of fleet.edges)
      expect(await edge.ask(SUSPECT)).toMatchObject({ ruleset: digests[0], band: 'suspect' });

    writeRules(24);
    digests.push((await succeed(['push', 'rules', '--canary', '40'])).digest);
    await fleet.untilRelease(2);
    const rulesets = new Set<string | null>();
    for (let number = 0; number < 40; number++)
      rulesets.add(
        (await fleet.edge.ask(SUSPECT, { authorization: `Bearer sk-${number}` })).ruleset,
      );
    expect(rulesets).toEqual(new Set(digests));

    await succeed(['promote']);
    await fleet.untilRelease(3);
    expect((await fleet.edge.ask(SUSPECT)).ruleset).toBe(digests[1]);

    await succeed(['rollback', '--note', 'too loud']);
    await fleet.untilRelease(4);
    expect((await fleet.edge.ask(SUSPECT)).ruleset).toBe(digests[0]);
    const { releases } = await admin.getOk('/releases');
    expect(
      releases.map(
        ({ kind, release }: { kind: string; release: { author: string; note: string } }) => [
          kind,
          release.author,
          release.note,
        ],
      ),
    ).toEqual([
      ['rollback', 'ana', 'too loud'],
      ['promote', 'ana', expect.any(String)],
      ['release', 'ana', expect.any(String)],
      ['release', 'ana', 'the first'],
    ]);
  });

  it('status, diff and audit show the releases', async () => {
    expect(await succeed(['status'])).toMatchObject({
      release: { serial: 4, kind: 'rollback' },
      publication: { serial: 4, pending: null },
    });
    expect(JSON.stringify(await succeed(['diff', digests[0]!, digests[1]!]))).toContain(
      'synthesis_pairs',
    );
    expect(JSON.stringify(await succeed(['audit']))).toContain('rollback');
  });

  it('rejections by the API are printed with a remedy, and change the exit code', async () => {
    const wrongToken = await hedgerow(['status'], {
      ...edgeTarget(),
      HEDGEROW_TOKEN: 'wrong-token-of-the-tests',
    });
    expect([wrongToken.code, wrongToken.stderr]).toEqual([
      expect.toBeOneOf([1, 2]),
      expect.stringContaining('token'),
    ]);
    const untrustedKey = fromDirectory('untrusted.key');
    await succeed(['keygen', '--output', untrustedKey], {});
    const untrusted = await hedgerow(['release', '--note', 'not mine'], {
      ...edgeTarget(),
      HEDGEROW_KEY: untrustedKey,
    });
    expect([untrusted.code, untrusted.stderr]).toEqual([
      expect.toBeOneOf([1, 2]),
      expect.stringMatching(/key/),
    ]);
    expect((await fleet.edge.version()).release).toBe(4);
  });

  it('a deployment pulls a directory that the CLI wrote, without a token', async () => {
    const directoryTarget = {
      HEDGEROW_DIRECTORY: fromDirectory('published'),
      HEDGEROW_KEY: fromDirectory('hedgerow.key'),
    };
    writeRules(22);
    const { digest } = await succeed(
      ['push', 'rules', '--release', '--note', 'from git'],
      directoryTarget,
    );
    config.serveDirectory(fromDirectory('published'));
    const pulling = await Fleet.start({
      origin,
      workers: 2,
      vars: { PUBLIC_KEYS: publicKey, CONFIG_URL: config.url },
    });
    try {
      await pulling.cron();
      await pulling.untilRelease(1);
      for (const edge of pulling.edges)
        expect(await edge.ask(SUSPECT)).toMatchObject({ ruleset: digest, band: 'suspect' });
      writeRules(25);
      const next = await succeed(['push', 'rules', '--release'], directoryTarget);
      config.serveDirectory(fromDirectory('published'));
      await pulling.cron();
      await pulling.untilRelease(2);
      expect((await pulling.edge.ask(SUSPECT)).ruleset).toBe(next.digest);
      await succeed(['rollback'], directoryTarget);
      config.serveDirectory(fromDirectory('published'));
      config.takeRequests();
      await pulling.cron();
      await pulling.untilRelease(3);
      expect((await pulling.edge.ask(SUSPECT)).ruleset).toBe(digest);
      expect(config.takeRequests().filter(({ path }) => path.startsWith('/bundles/'))).toEqual([]);
    } finally {
      await pulling.dispose();
    }
  });

  it('indicators and clusters are listed, explained and revoked', async () => {
    const event = (number: number) => `        - offset: ${number}m
          event:
            hedgerow.prompt.user: question-answer pairs
            hedgerow.account: a${number}
            client.address: 203.0.113.9`;
    const events = (count: number) => Array.from({ length: count }, (_, i) => event(i)).join('\n');
    const exemplar = (name: string, expect: string, count: number) =>
      `    - name: "${name}"\n      expect: ${expect}\n      events:\n${events(count)}`;
    const correlation = `title: Pairs for several accounts at one address
id: 7b0c4b57-6d0e-4c43-8a0c-9f7b3d1f2e10
name: cluster_pairs_address
status: stable
description: Several accounts ask for training pairs from one address.
references: [https://arxiv.org/abs/2212.10560]
author: Hedgerow
date: 2026-11-25
tags: [hedgerow.cluster]
correlation:
  type: value_count
  rules: [synthesis_pairs]
  group-by: [client.address]
  timespan: 1h
  condition: {field: hedgerow.account, gte: 3}
falsepositives: [A class that writes a quiz]
level: high
custom_attributes:
  hedgerow.weight: 9
  rsigma.exemplars:
${exemplar('three', 'match', 3)}
${exemplar('four', 'match', 4)}
${exemplar('near: two', 'no-match', 2)}
${exemplar('near: one', 'no-match', 1)}
`;
    writeRules(1);
    mkdirSync(fromDirectory('rules/cluster'), { recursive: true });
    writeFileSync(fromDirectory('rules/cluster/pairs_address.yml'), correlation);
    await succeed(['push', 'rules', '--release', '--note', 'with a correlation']);
    await fleet.untilRelease(5);
    const address = { 'cf-connecting-ip': '203.0.113.40' };
    const { indicators } = await eventually('the indicator', async () => {
      // Repeats the requests, because correlators count by the previous rules until they adopt the
      // release.
      for (let number = 0; number < 3; number++)
        await fleet.edge.ask(SUSPECT, { authorization: `Bearer sk-class-${number}`, ...address });
      const list = await succeed(['indicators', 'list', '--correlation', 'cluster_pairs_address']);
      expect(list.indicators).toHaveLength(1);
      return list;
    });
    const { key, cluster } = indicators[0];
    expect(indicators[0]).toMatchObject({
      correlation: 'cluster_pairs_address',
      measured: 3,
      accounts: 3,
      threshold: '≥ 3 different hedgerow.account within 1 h, by client.address',
      revoked_at: null,
    });
    expect((await succeed(['indicators', 'explain', key])).cluster).toMatchObject({
      id: cluster,
      accounts: 3,
    });
    expect((await succeed(['indicators', 'list', '--cluster', cluster])).indicators).toHaveLength(
      1,
    );
    // Requests from this address hit the indicator only if they also ask for pairs.
    const decide = async (content: string) => {
      const headers = { authorization: 'Bearer sk-class-0', ...address };
      const decision = await fleet.edge.decision(await fleet.edge.ask(content, headers));
      return { cluster: decision.cluster, hits: decision.hits.map(({ name }) => name) };
    };
    await eventually('a hit', async () => {
      const { cluster: found, hits } = await decide(SUSPECT);
      expect([found, hits]).toEqual([cluster, expect.arrayContaining(['cluster_pairs_address'])]);
    });
    expect(await decide('When do blackbirds nest?')).toEqual({ cluster: undefined, hits: [] });
    await eventually('the counts', async () => {
      await fleet.edge.ask();
      const { clusters } = await succeed(['clusters', 'list']);
      expect(clusters).toMatchObject([
        {
          id: cluster,
          accounts: 3,
          keys: 1,
          correlations: ['cluster_pairs_address'],
          traffic: { minutes: 1440 },
        },
      ]);
      expect(clusters[0].traffic.requests).toBeGreaterThan(0);
    });
    expect(await succeed(['clusters', 'show', cluster, '--minutes', '60'])).toMatchObject({
      id: cluster,
      links: [{ key, correlation: 'cluster_pairs_address' }],
      traffic: { minutes: 60 },
    });
    const text = async (...args: string[]) =>
      (await hedgerow(['--format', 'text', ...args], edgeTarget())).stdout;
    expect(await text('indicators', 'list')).toMatch(
      new RegExp(`${key}.*cluster_pairs_address.*${cluster}`),
    );
    expect(await text('indicators', 'explain', key)).toContain(
      '≥ 3 different hedgerow.account within 1 h, by client.address',
    );
    expect(await text('clusters', 'list')).toMatch(new RegExp(`^${cluster}`, 'm'));
    const shown = await text('clusters', 'show', cluster);
    expect(shown).toMatch(/models +demo-large 100 %/);
    expect(shown).toMatch(/accounts in the last \d+ sampled decisions\n +[0-9a-f]{32} +\d+ {2}key/);
    expect(await text('status')).toMatch(/^names +\d+ of 10000 accounts/m);
    expect(await text('status')).toMatch(/indicators +1, 1 clusters/);
    const split = ['clusters', 'split', '--reason', 'x'];
    const errors: [string[], number, RegExp][] = [
      [['indicators', 'explain', '0000000000000000'], 1, /unknown indicator key/],
      [['indicators', 'explain', 'nonsense'], 2, /16 digits/],
      [['indicators', 'revoke', key], 2, /--reason/],
      [['indicators', 'revoke-matching', '--reason', 'x'], 2, /--correlation/],
      [
        ['indicators', 'revoke', key, '--reason', 'x', '--until', '2020-01-31'],
        2,
        /expected a time in the future/,
      ],
      [
        ['indicators', 'revoke', key, '--reason', 'x', '--until', '99w'],
        1,
        /expected a time in the next 366 days/,
      ],
      [['clusters', 'show', '00000000'], 1, /unknown cluster/],
      [['clusters', 'split', cluster, '--reason', 'x'], 2, /--account/],
      [[...split, '00000000', '--account', 'f'.repeat(16)], 1, /unknown cluster/],
      [[...split, cluster, '--account', 'f'.repeat(16)], 1, /no account of the request/],
    ];
    for (const [args, code, message] of errors) {
      const failure = await hedgerow(args, edgeTarget());
      expect([args, failure.code, failure.stderr]).toEqual([
        args,
        code,
        expect.stringMatching(message),
      ]);
    }
    const select = ['indicators', 'revoke-matching', '--reason', 'a class of ours', '--dry-run'];
    for (const [filter, count] of [
      [['--correlation', 'cluster_pairs_address', '--since', '1h'], 1],
      [['--cluster', cluster], 1],
      [['--before', '1h'], 0],
    ] as const)
      expect(await succeed([...select, ...filter])).toEqual({ count, dry_run: true });
    expect(await text(...select, '--cluster', cluster)).toBe('would revoke 1 indicators\n');
    expect(await text('status')).toMatch(/room: 1 of 100000 indicators.*\n.*cluster_pairs_address/);
    expect(await succeed(['indicators', 'revoke', key, '--reason', 'a class of ours'])).toEqual({
      key,
      count: 1,
    });
    await eventually('the revocation', async () => {
      for (const edge of fleet.edges)
        expect(
          (
            await edge.decision(
              await edge.ask('When do blackbirds nest?', {
                authorization: 'Bearer sk-class-9',
                ...address,
              }),
            )
          ).hits,
        ).toEqual([]);
    });
    expect(await text('indicators', 'list')).toMatch(new RegExp(`${key}.*revoked`));
    expect(await text('indicators', 'explain', key)).toContain('a class of ours');
    expect(JSON.stringify(await succeed(['audit']))).toContain(`${key}: a class of ours`);
    rmSync(fromDirectory('rules/cluster'), { recursive: true });
  });

  it('a request is answered by the origin', async () => {
    const response = await fleet.edge.post('/v1/chat/completions', chat(SUSPECT));
    expect([response.status, await response.json()]).toEqual([200, { ok: true }]);
  });

  it('of two concurrent releases each succeeds or is rejected, and no bundle is lost', async () => {
    const { serial } = (await admin.getOk('/releases/current')).release;
    const before = (await admin.getOk('/bundles')).bundles.length;
    const colleague = mkdtempSync(path.join(tmpdir(), 'hedgerow-colleague-'));
    try {
      writeRules(23);
      cpSync(fromDirectory('rules'), path.join(colleague, 'rules'), { recursive: true });
      writeRules(25);
      const outcomes = await Promise.all(
        [fromDirectory('rules'), path.join(colleague, 'rules')].map((directory) =>
          hedgerow(['push', directory, '--release', '--note', 'at once'], edgeTarget()),
        ),
      );
      const { releases } = await admin.getOk('/releases');
      const newReleases = releases.filter(
        ({ release }: { release: { serial: number } }) => release.serial > serial,
      );
      const successes = outcomes.filter(({ code }) => code === 0);
      expect(newReleases.length).toBe(successes.length);
      expect(
        newReleases.map(({ release }: { release: { active: string } }) => release.active).sort(),
      ).toEqual(successes.map(({ json }) => json.digest).sort());
      for (const { code, stderr } of outcomes.filter(({ code }) => code !== 0))
        expect([code, stderr]).toEqual([1, expect.stringMatching(/release/)]);
      // The registry stores both bundles.
      const { bundles } = await admin.getOk('/bundles');
      expect(bundles.length).toBe(before + 2);
      await succeed(['release', digests[0]!, '--note', 'as before']);
      await fleet.untilRelease(newReleases.length + serial + 1);
    } finally {
      rmSync(colleague, { recursive: true, force: true });
    }
  });

  it('stop needs no signing key and survives releases; resume needs the key', async () => {
    const serial = (await admin.getOk('/releases/current')).serial as number;
    const onCall = { HEDGEROW_URL: fleet.edge.url, HEDGEROW_TOKEN: STOP_TOKEN };
    const invalid = await hedgerow(['stop', '--reason', 'x', '--path', 'v1'], onCall);
    expect([invalid.code, invalid.stderr]).toEqual([2, expect.stringContaining('/v1/chat/**')]);
    const { stop } = await succeed(['stop', '--reason', 'ticket 812', '--path', '/v1/**'], onCall);
    expect(stop).toMatchObject({ paths: ['/v1/**'], author: 'ana', reason: 'ticket 812' });
    const text = await hedgerow(['--format', 'text', 'status'], onCall);
    expect(text.stdout).toMatch(/^STOPPED +requests for \/v1\/\*\* are not enforced since /);
    expect(text.stdout).toContain('by ana: ticket 812');
    const refused = await hedgerow(['resume'], { ...edgeTarget(), HEDGEROW_TOKEN: STOP_TOKEN });
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringContaining('this token only allows reading and stops'),
    ]);
    await succeed(['release', digests[0]!, '--note', 'during the stop']);
    expect((await admin.status()).stop.stop).toEqual(stop);
    const { release } = await succeed(['resume', '--note', 'solved']);
    expect(release).toMatchObject({ serial: serial + 2, active: digests[0], resumes: stop.at });
    expect((await admin.status()).stop).toBeNull();
    const again = await hedgerow(['resume'], edgeTarget());
    expect([again.code, again.stderr]).toEqual([
      1,
      expect.stringContaining('enforcement is not stopped'),
    ]);
  });

  it('a patch during a canary reaches every bundle, and keeps the accounts', async () => {
    const { serial } = await admin.getOk('/releases/current');
    writeRules(26);
    await succeed(['push', 'rules', '--canary', '40']);
    await fleet.untilRelease(serial + 1);
    const inCanary = async () => {
      const rulesets: (string | null)[] = [];
      for (let number = 0; number < 30; number++) {
        const authorization = `Bearer sk-patch-${number}`;
        rulesets.push((await fleet.edge.ask(SUSPECT, { authorization })).ruleset);
      }
      const { canary } = (await admin.getOk('/releases/current')).release;
      return rulesets.map((ruleset) => ruleset === canary.digest);
    };
    const before = await inCanary();
    expect(new Set(before)).toEqual(new Set([true, false]));
    const end = ['--reason', 'ticket 9', '--until', '7d'];
    const exemption = ['exempt', 'audit', '--path', '/v1/audit/**', '--rules', 'rules', ...end];
    const next = 'hedgerow push rules --release --patch';
    expect(await succeed(exemption)).toMatchObject({ next });
    const ending = await hedgerow(['push', 'rules', '--release'], edgeTarget());
    expect([ending.code, ending.stderr]).toEqual([1, expect.stringContaining('ends the canary')]);
    const { patch, release } = await succeed(['push', 'rules', '--release', '--patch']);
    expect(patch.base).toBe('canary');
    expect(release.release.canary).toMatchObject({ percent: 40 });
    await fleet.untilRelease(serial + 2);
    expect(await inCanary()).toEqual(before);
    for (const { to, content } of patch.bundles) {
      const { bundle } = await admin.getOk(`/bundles/${to}`);
      expect(JSON.parse(bundle).policy.exemption).toMatchObject([{ name: 'audit' }]);
      expect((await admin.status()).release.contents[to]).toBe(content);
    }
  });

  it('a backup restores a deployment that has lost everything', async () => {
    const backup = fromDirectory('backup');
    await succeed(['backup', backup]);
    const expected = await admin.getOk('/releases/current');
    const lost = await Fleet.start({
      origin,
      workers: 2,
      vars: { PUBLIC_KEYS: publicKey, ADMIN_TOKEN },
    });
    try {
      const target = { HEDGEROW_URL: lost.edge.url, HEDGEROW_TOKEN: ADMIN_TOKEN };
      expect(await succeed(['restore', backup], target)).toMatchObject({
        serial: expected.serial,
        releases: [expected.serial - 1, expected.serial],
        skipped: [],
      });
      await lost.untilRelease(expected.serial);
      const { active, canary } = expected.release;
      for (const edge of lost.edges)
        expect([active, canary.digest]).toContain((await edge.ask(SUSPECT)).ruleset);
      // The backup has the same signed texts, so that nothing is left to restore.
      expect(await succeed(['restore', backup], target)).toMatchObject({ releases: [] });
      await succeed(['rollback'], { ...target, HEDGEROW_KEY: fromDirectory('hedgerow.key') });
      await lost.untilRelease(expected.serial + 1);
    } finally {
      await lost.dispose();
    }
  });
});
