// The whole way with the real CLI: a key, a push, a release, a canary, the way back; over the admin API, and over a directory that is pulled.
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Config } from './config.ts';
import { minisign, keyPair, verifies } from './minisign.ts';
import { Admin } from './release.ts';
import { chat, eventually, Fleet, Origin, ROOT } from './support.ts';

const CLI = path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target"), "debug/hedgerow");
const built = existsSync(CLI);
if (!built) console.log('skipped: target/debug/hedgerow does not exist (`cargo build`)');

const TOKEN = 'publish-token-of-the-tests';
/** Fits the only signature of these rules; 22 dB make it suspect. */
const SUSPECT = 'Write ten question-answer pairs about hedges.';

describe.skipIf(!built)('the CLI', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-cli-'));
  const at = (...parts: string[]) => path.join(directory, ...parts);
  let origin: Origin;
  let config: Config;
  let fleet: Fleet;
  let embedded: string;
  let publicKey: string;
  const digests: string[] = [];

  /** Runs it; its JSON. */
  async function hedgerow(args: string[], env: Record<string, string> = {}) {
    const { code, stdout, stderr } = await new Promise<{ code: number; stdout: string; stderr: string }>((done) => {
      const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HEDGEROW_')));
      execFile(CLI, args[0] === '--format' ? args : ['--format', 'json', ...args], { cwd: directory, env: { ...own, HEDGEROW_AUTHOR: 'ana', ...env } }, (error, stdout, stderr) => done({ code: error ? Number(error.code) : 0, stdout, stderr }));
    });
    const json = (stdout.trim().startsWith('{') ? JSON.parse(stdout) : null) as any;
    return { code, json, stdout, stderr };
  }
  const toEdge = () => ({ HEDGEROW_URL: fleet.edge.url, HEDGEROW_TOKEN: TOKEN, HEDGEROW_KEY: at('hedgerow.key') });
  const fine = async (args: string[], env = toEdge() as Record<string, string>) => {
    const { code, json, stderr } = await hedgerow(args, env);
    expect([args, code, stderr]).toEqual([args, 0, expect.any(String)]);
    return json;
  };

  /** Rules of one signature, of a weight. */
  function rules(weight: number) {
    cpSync(path.join(ROOT, 'tests/fixtures/strict/synthesis'), at('rules/synthesis'), { recursive: true });
    writeFileSync(at('rules/policy.toml'), `mode = "shadow"\n\n[[signature]]\nname = "synthesis_pairs"\nweight = ${weight}.0\n`);
  }

  beforeAll(async () => {
    origin = await Origin.start();
    origin.answer = Origin.ok;
    config = await Config.start();
    await fine(['keygen'], {});
    publicKey = readFileSync(at('hedgerow.key.pub'), 'utf8').split('\n')[1]!;
    fleet = await Fleet.start({ origin, workers: 2, vars: { PUBLIC_KEYS: publicKey, ADMIN_TOKEN: TOKEN } });
    embedded = (await fleet.edge.version()).ruleset;
  });
  afterAll(async () => {
    await fleet?.dispose();
    await config?.close();
    await origin?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('what it signs verifies by minisign’s rules', async () => {
    rules(22);
    const { digest } = await fine(['push', 'rules']);
    digests.push(digest);
    const { bundle, signature } = await new Admin(fleet.edge.url, TOKEN).got(`/bundles/${digest}`);
    expect(verifies(publicKey, bundle, signature)).toBe(true);
    expect(signature).toContain(`trusted comment: hedgerow bundle ${digest}\n`);
    expect(verifies(publicKey, bundle, minisign(keyPair(), bundle, 'x'))).toBe(false);
    // Pushed is not released.
    expect((await fleet.edge.ask(SUSPECT)).ruleset).toBe(embedded);
  });

  it('release, canary, promote, rollback: isolates do as it says', async () => {
    await fine(['release', '--note', 'the first']);
    await fleet.everywhere(1);
    for (const edge of fleet.edges) expect(await edge.ask(SUSPECT)).toMatchObject({ ruleset: digests[0], band: 'suspect' });

    rules(24);
    digests.push((await fine(['push', 'rules', '--canary', '40'])).digest);
    await fleet.everywhere(2);
    const seen = new Set<string | null>();
    for (let number = 0; number < 40; number++) seen.add((await fleet.edge.ask(SUSPECT, { authorization: `Bearer sk-${number}` })).ruleset);
    expect(seen).toEqual(new Set(digests));

    await fine(['promote']);
    await fleet.everywhere(3);
    expect((await fleet.edge.ask(SUSPECT)).ruleset).toBe(digests[1]);

    await fine(['rollback', '--note', 'too loud']);
    await fleet.everywhere(4);
    expect((await fleet.edge.ask(SUSPECT)).ruleset).toBe(digests[0]);
    const { releases } = await new Admin(fleet.edge.url, TOKEN).got('/releases');
    expect(releases.map(({ kind, release }: { kind: string; release: { author: string; note: string } }) => [kind, release.author, release.note])).toEqual([['rollback', 'ana', 'too loud'], ['promote', 'ana', expect.any(String)], ['release', 'ana', expect.any(String)], ['release', 'ana', 'the first']]);
  });

  it('status, diff and audit show it', async () => {
    expect(await fine(['status'])).toMatchObject({ release: { serial: 4, kind: 'rollback' }, publication: { serial: 4, pending: null } });
    expect(JSON.stringify(await fine(['diff', digests[0]!, digests[1]!]))).toContain('synthesis_pairs');
    expect(JSON.stringify(await fine(['audit']))).toContain('rollback');
  });

  it('what the edge refuses it says, with the remedy, and its exit code tells', async () => {
    const [wrong, stranger] = [await hedgerow(['status'], { ...toEdge(), HEDGEROW_TOKEN: 'wrong-token-of-the-tests' }), at('stranger.key')];
    expect([wrong.code, wrong.stderr]).toEqual([expect.toBeOneOf([1, 2]), expect.stringContaining('token')]);
    await fine(['keygen', '--output', stranger], {});
    const foreign = await hedgerow(['release', '--note', 'not mine'], { ...toEdge(), HEDGEROW_KEY: stranger });
    expect([foreign.code, foreign.stderr]).toEqual([expect.toBeOneOf([1, 2]), expect.stringMatching(/key/)]);
    expect((await fleet.edge.version()).release).toBe(4);
  });

  it('a directory that it left is what cron fetches: nobody needs a token', async () => {
    const toDirectory = { HEDGEROW_DIRECTORY: at('published'), HEDGEROW_KEY: at('hedgerow.key') };
    rules(22);
    const { digest } = await fine(['push', 'rules', '--release', '--note', 'from git'], toDirectory);
    config.serve(at('published'));
    const pulling = await Fleet.start({ origin, workers: 2, vars: { PUBLIC_KEYS: publicKey, CONFIG_URL: config.url } });
    try {
      await pulling.cron();
      await pulling.everywhere(1);
      for (const edge of pulling.edges) expect(await edge.ask(SUSPECT)).toMatchObject({ ruleset: digest, band: 'suspect' });
      rules(25);
      const next = await fine(['push', 'rules', '--release'], toDirectory);
      config.serve(at('published'));
      await pulling.cron();
      await pulling.everywhere(2);
      expect((await pulling.edge.ask(SUSPECT)).ruleset).toBe(next.digest);
      await fine(['rollback'], toDirectory);
      config.serve(at('published'));
      config.take();
      await pulling.cron();
      await pulling.everywhere(3);
      expect((await pulling.edge.ask(SUSPECT)).ruleset).toBe(digest);
      expect(config.take().filter(({ path }) => path.startsWith('/bundles/'))).toEqual([]);
    } finally {
      await pulling.dispose();
    }
  });

  it('indicators and clusters: listed, explained, revoked', async () => {
    const events = (count: number) => Array.from({ length: count }, (_, number) => `        - {offset: ${number}m, event: {hedgerow.prompt.user: question-answer pairs, hedgerow.account: a${number}, client.address: 203.0.113.9}}`).join('\n');
    const exemplar = (name: string, expect: string, count: number) => `    - name: "${name}"\n      expect: ${expect}\n      events:\n${events(count)}`;
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
    rules(1);
    mkdirSync(at('rules/cluster'), { recursive: true });
    writeFileSync(at('rules/cluster/pairs_address.yml'), correlation);
    await fine(['push', 'rules', '--release', '--note', 'with a correlation']);
    await fleet.everywhere(5);
    const address = { 'cf-connecting-ip': '203.0.113.40' };
    const { indicators } = await eventually('the indicator', async () => {
      // Correlators take a release over when they look for one, as isolates do: what comes before that counts by the old rules.
      for (let number = 0; number < 3; number++) await fleet.edge.ask(SUSPECT, { authorization: `Bearer sk-class-${number}`, ...address });
      const found = await fine(['indicators', 'list', '--correlation', 'cluster_pairs_address']);
      expect(found.indicators).toHaveLength(1);
      return found;
    });
    const { key, cluster } = indicators[0];
    expect(indicators[0]).toMatchObject({ correlation: 'cluster_pairs_address', measured: 3, accounts: 3, threshold: '≥ 3 different hedgerow.account within 1 h, by client.address', revoked: null });
    expect((await fine(['indicators', 'explain', key])).cluster).toMatchObject({ id: cluster, accounts: 3 });
    expect((await fine(['indicators', 'list', '--cluster', cluster])).indicators).toHaveLength(1);
    // Any other request from there, of any account, meets it.
    await eventually('a hit', async () => {
      const decision = await fleet.edge.decision(await fleet.edge.ask('When do blackbirds nest?', { authorization: 'Bearer sk-class-9', ...address }));
      expect(decision).toMatchObject({ cluster, hits: [{ name: 'cluster_pairs_address' }] });
    });
    await eventually('the counts', async () => {
      await fleet.edge.ask();
      const { clusters } = await fine(['clusters', 'list']);
      expect(clusters).toMatchObject([{ id: cluster, accounts: 3, keys: 1, correlations: ['cluster_pairs_address'], traffic: { minutes: 1440 } }]);
      expect(clusters[0].traffic.requests).toBeGreaterThan(0);
    });
    expect(await fine(['clusters', 'show', cluster, '--minutes', '60'])).toMatchObject({ id: cluster, links: [{ key, correlation: 'cluster_pairs_address' }], traffic: { minutes: 60 } });
    // As people read it.
    const text = async (...args: string[]) => (await hedgerow(['--format', 'text', ...args], toEdge())).stdout;
    expect(await text('indicators', 'list')).toMatch(new RegExp(`${key}.*cluster_pairs_address.*${cluster}`));
    expect(await text('indicators', 'explain', key)).toContain('≥ 3 different hedgerow.account within 1 h, by client.address');
    expect(await text('clusters', 'list')).toMatch(new RegExp(`^${cluster}`, 'm'));
    expect(await text('clusters', 'show', cluster)).toMatch(/models +demo-large 100 %/);
    expect(await text('status')).toMatch(/indicators +1, 1 clusters/);
    // What is wrong is said.
    const refusals: [string[], number, RegExp][] = [
      [['indicators', 'explain', '0000000000000000'], 1, /there is no indicator/],
      [['indicators', 'explain', 'nonsense'], 2, /16 digits/],
      [['indicators', 'revoke', key], 2, /--reason/],
      [['indicators', 'revoke', key, '--reason', 'x', '--until', '2020-01-31'], 2, /no time to come/],
      [['indicators', 'revoke', key, '--reason', 'x', '--until', '99w'], 1, /too far away/],
      [['clusters', 'show', '00000000'], 1, /there is no cluster/],
    ];
    for (const [args, code, message] of refusals) {
      const refusal = await hedgerow(args, toEdge());
      expect([args, refusal.code, refusal.stderr]).toEqual([args, code, expect.stringMatching(message)]);
    }
    expect(await fine(['indicators', 'revoke', key, '--reason', 'a class of ours'])).toEqual({ key, revoked: 1 });
    await eventually('the revocation', async () => {
      for (const edge of fleet.edges) expect((await edge.decision(await edge.ask('When do blackbirds nest?', { authorization: 'Bearer sk-class-9', ...address }))).hits).toEqual([]);
    });
    expect(await text('indicators', 'list')).toMatch(new RegExp(`${key}.*revoked`));
    expect(await text('indicators', 'explain', key)).toContain('a class of ours');
    expect(JSON.stringify(await fine(['audit']))).toContain(`${key}: a class of ours`);
    rmSync(at('rules/cluster'), { recursive: true });
  });

  it('one request through it all is answered by the origin', async () => {
    const answer = await fleet.edge.post('/v1/chat/completions', chat(SUSPECT));
    expect([answer.status, await answer.json()]).toEqual([200, { ok: true }]);
  });

  it('of two that push and release at once, one is told to look at what the other changed, or both are in, one after the other', async () => {
    const admin = new Admin(fleet.edge.url, TOKEN);
    const { serial } = (await admin.got('/releases/current')).release;
    const before = (await admin.got('/bundles')).bundles.length;
    const colleague = mkdtempSync(path.join(tmpdir(), 'hedgerow-colleague-'));
    try {
      rules(23);
      cpSync(at('rules'), path.join(colleague, 'rules'), { recursive: true });
      rules(25);
      const outcomes = await Promise.all([at('rules'), path.join(colleague, 'rules')].map((directory) => hedgerow(['push', directory, '--release', '--note', 'at once'], toEdge())));
      const { releases } = await admin.got('/releases');
      const made = releases.filter(({ release }: { release: { serial: number } }) => release.serial > serial);
      const ok = outcomes.filter(({ code }) => code === 0);
      expect(made.length).toBe(ok.length);
      expect(made.map(({ release }: { release: { active: string } }) => release.active).sort()).toEqual(ok.map(({ json }) => json.digest).sort());
      for (const { code, stderr } of outcomes.filter(({ code }) => code !== 0)) expect([code, stderr]).toEqual([1, expect.stringMatching(/release/)]);
      // Nothing that was pushed is lost, whoever was first.
      const { bundles } = await admin.got('/bundles');
      expect(bundles.length).toBe(before + 2);
      await fine(['release', digests[0]!, '--note', 'as before']);
      await fleet.everywhere(made.length + serial + 1);
    } finally {
      rmSync(colleague, { recursive: true, force: true });
    }
  });
});
