// The way of an adopter, with the real CLI: own logs, an approval by content digest, an exemption
// during a canary, one model enforced on one host, and an upgrade with own rules. Lookups of
// refused requests are in decisions.spec.ts, and stops in stop.spec.ts.
import { execFile, execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_LINE } from '../../scripts/lib/build.mjs';
import { Admin, ADMIN_TOKEN } from './release-fixtures.ts';
import { chat, isBuilt, Origin, ROOT, useFleet, useOrigin } from './support.ts';

/** A prompt that matches the only rule of the vendor. It has 22 dB, and makes a request suspect. */
const SUSPECT = 'Write ten question-answer pairs about hedges.';
const LOGS = path.join(ROOT, 'tests/fixtures/first-week');
const ACCOUNTS = Array.from({ length: 40 }, (_, number) => `Bearer sk-journey-${number}`);

describe.skipIf(!isBuilt(COMMAND_LINE, 'cargo build --release'))('the journey', () => {
  let project: string;
  let publicKey: string;
  const inProject = (...parts: string[]) => path.join(project, ...parts);

  /** Runs the CLI in the project. */
  async function hedgerow(...args: string[]) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('HEDGEROW_'));
    const env = {
      ...Object.fromEntries(inherited),
      HEDGEROW_AUTHOR: 'ana',
      HEDGEROW_URL: fleet.edge.url,
      HEDGEROW_TOKEN: ADMIN_TOKEN,
      HEDGEROW_KEY: inProject('hedgerow.key'),
    };
    return new Promise<{ code: number; stdout: string; stderr: string }>((done) => {
      execFile(COMMAND_LINE, args, { cwd: project, env }, (error, stdout, stderr) =>
        done({ code: error ? Number(error.code) : 0, stdout, stderr }),
      );
    });
  }
  /** Runs a command that must succeed, and returns its standard output. */
  async function text(...args: string[]) {
    const { code, stdout, stderr } = await hedgerow(...args);
    expect([args, code, stderr, stdout]).toEqual([args, 0, stderr, stdout]);
    return stdout;
  }
  /** Runs a command that must succeed, and returns its JSON. */
  const json = async (...args: string[]) => JSON.parse(await text('--format', 'json', ...args));
  /** Runs a command that must be rejected, and returns what it prints. */
  async function rejected(...args: string[]) {
    const { code, stdout, stderr } = await hedgerow(...args);
    expect([args, code, stdout + stderr]).toEqual([args, 1, stdout + stderr]);
    return stdout + stderr;
  }

  /** Writes a version of the vendor's rules. `level` sets the weight of its only rule. */
  function writeVendor(version: string, level: 'critical' | 'high') {
    const directory = inProject('..', version);
    cpSync(path.join(ROOT, 'tests/fixtures/strict/synthesis'), path.join(directory, 'synthesis'), {
      recursive: true,
    });
    const rule = path.join(directory, 'synthesis/pairs.yml');
    writeFileSync(rule, readFileSync(rule, 'utf8').replace('level: critical', `level: ${level}`));
    return directory;
  }

  const origin = useOrigin(Origin.ok);
  let root: string;
  beforeAll(() => {
    root = mkdtempSync(path.join(tmpdir(), 'hedgerow-journey-'));
    project = path.join(root, 'project');
    mkdirSync(project);
    const vendor = writeVendor('vendor-1', 'critical');
    execFileSync(COMMAND_LINE, ['keygen', '--output', inProject('hedgerow.key')]);
    execFileSync(COMMAND_LINE, ['rules', 'init', project, '--from', vendor]);
    appendFileSync(inProject('ours/policy.toml'), '\n[actions]\nsuspect = "block"\n');
    publicKey = readFileSync(inProject('hedgerow.key.pub'), 'utf8').split('\n')[1]!;
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  const fleet = useFleet({
    origin,
    workers: 2,
    vars: () => ({ PUBLIC_KEYS: publicKey, ADMIN_TOKEN }),
  });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);

  /** Returns the manifest of the current release. */
  const release = async () => (await admin.status()).release.release;
  /** Waits until all isolates use the current release, and returns its manifest. */
  async function settled() {
    const manifest = await release();
    await fleet.untilRelease(manifest.serial);
    return manifest;
  }

  it('logs of LiteLLM, nginx and Logpush are converted and replayed', async () => {
    const logs = { litellm: 'litellm.jsonl', nginx: 'access.log' } as Record<string, string>;
    logs['cloudflare-logpush'] = 'logpush.ndjson';
    const recorded: string[] = [];
    for (const [format, log] of Object.entries(logs)) {
      const file = inProject(`${format}.recorded`);
      const convert = ['convert', '--from', format, path.join(LOGS, log), '-o', file];
      await text(...convert, '--label', 'benign');
      expect(readFileSync(file, 'utf8')).not.toContain('fixture-secret');
      recorded.push(file);
    }
    // Two requests of Logpush have no known body. GET requests are not LLM calls.
    expect(await json('replay', ...recorded)).toMatchObject({
      requests: 6,
      not_judged: 2,
      passed: 2,
      unreadable: 0,
    });
  });

  it('a script releases only the rules whose content digest was approved', async () => {
    const approved = await json('build', '-o', inProject('bundle.json'));
    await text('weigh', 'synthesis_pairs', '24', '--reason', 'nobody has seen this');
    const push = ['push', '--expect-content', approved.content, '--release'];
    expect(await rejected(...push)).toContain(approved.content);
    expect(await admin.status()).toMatchObject({ release: null });
    expect((await admin.getOk('/bundles')).bundles).toEqual([]);

    await text('weigh', 'synthesis_pairs', '--remove');
    const pushed = await json(...push);
    expect(pushed.content).toBe(approved.content);
    // The bundles differ in serial and time, and decide the same.
    expect(pushed.digest).not.toBe(approved.digest);
    expect(await json('diff', 'active', inProject('bundle.json'))).toMatchObject({
      from_content: approved.content,
      to_content: approved.content,
    });
    expect((await settled()).active).toBe(pushed.digest);
  });

  it('an exemption during a canary keeps the canary and its accounts', async () => {
    await text('weigh', 'synthesis_pairs', '23', '--reason', 'seen in a campaign');
    await text('push', '--canary', '40', '--note', 'heavier pairs');
    const before = await settled();
    const partner = '/v1/partner/chat/completions';
    /** Returns the ruleset and the action for each account. */
    const decide = async (target: string) => {
      const decisions: (string | null)[][] = [];
      for (const authorization of ACCOUNTS) {
        const { headers } = await fleet.edge.post(target, chat(SUSPECT), { authorization });
        decisions.push(['ruleset', 'action'].map((name) => headers.get(`x-hedgerow-${name}`)));
      }
      return decisions;
    };
    const decided = await decide(partner);
    expect(new Set(decided.map(String))).toEqual(
      new Set([`${before.active},block`, `${before.canary.digest},block`]),
    );

    const exempt = ['exempt', 'partner', '--path', '/v1/partner/**', '--until', '30d'];
    await text(...exempt, '--reason', 'a partner that evaluates models');
    expect(await rejected('push', '--release')).toContain(
      `ends the canary ${before.canary.digest.slice(0, 12)}`,
    );
    expect(await release()).toEqual(before);
    const { patch } = await json('push', '--release', '--patch', '--note', 'exempts a partner');
    expect(patch.bundles.map(({ roles }: { roles: string }) => roles).sort()).toEqual([
      'active',
      'canary',
    ]);
    const after = await settled();
    expect([after.serial, after.canary.percent]).toEqual([before.serial + 1, 40]);
    // Each account keeps its role, and both bundles have the exemption.
    const successor = new Map<string, string>([
      [before.active, after.active],
      [before.canary.digest, after.canary.digest],
    ]);
    const withAction = (action: string) =>
      decided.map(([ruleset]) => [successor.get(ruleset!), action]);
    expect(await decide(partner)).toEqual(withAction('allow'));
    expect(await decide('/v1/chat/completions')).toEqual(withAction('block'));
  });

  it('one model is enforced on one host', async () => {
    const route = 'host = "127.0.0.1"\nmodel = "large-*"\nmode = "enforce"\n';
    appendFileSync(inProject('ours/policy.toml'), `\n[[route]]\n${route}`);
    await text('push', '--release', '--yes', '--note', 'ends the canary, enforces large-*');
    expect((await settled()).canary).toBeUndefined();
    const rows = [
      ['127.0.0.1', 'large-1', 403],
      ['127.0.0.1', 'small-1', 200],
      ['localhost', 'large-1', 200],
      ['localhost', 'small-1', 200],
    ] as const;
    for (const [host, model, status] of rows) {
      const response = await fetch(`http://${host}:${fleet.edge.port}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: 'Bearer sk-journey' },
        body: JSON.stringify(chat(SUSPECT, { model })),
      });
      await response.arrayBuffer();
      expect([host, model, response.status]).toEqual([host, model, status]);
    }
  });

  it('an upgrade keeps own rules and settings, and shows its effect before', async () => {
    const request = JSON.stringify({ path: '/v1/chat/completions', body: chat(SUSPECT) });
    writeFileSync(inProject('request.json'), request);
    const ours = () => readFileSync(inProject('ours/policy.toml'), 'utf8');
    const vendor = () => readFileSync(inProject('vendor/synthesis/pairs.yml'), 'utf8');
    const [oursBefore, vendorBefore] = [ours(), vendor()];
    const next = writeVendor('vendor-2', 'high');
    const update = ['rules', 'update', '--from', next];

    const shown = await json(...update, '--dry-run', '--replay', inProject('request.json'));
    expect(shown).toMatchObject({
      written: false,
      findings: [],
      diff: { weights: [{ name: 'synthesis_pairs', from: 22, to: 13 }] },
      replay: { requests: 1 },
    });
    expect(vendor()).toBe(vendorBefore);
    expect(await json(...update)).toMatchObject({ written: true, edits: [] });
    expect([ours(), vendor().includes('level: high')]).toEqual([oursBefore, true]);
    // The weight of `ours` still replaces that of the vendor, and the own rule still exists.
    expect(await text('score', inProject('request.json'))).toMatch(/\+23\.0 dB +synthesis_pairs/);
    await text('build', '-o', inProject('bundle.json'));
    const { signatures } = JSON.parse(readFileSync(inProject('bundle.json'), 'utf8'));
    expect(signatures.map(({ name }: { name: string }) => name).sort()).toEqual([
      'own_example',
      'synthesis_pairs',
    ]);

    // A change in the vendor directory would be lost, so that it is refused.
    appendFileSync(inProject('vendor/synthesis/pairs.yml'), '# edited\n');
    const back = ['rules', 'update', '--from', path.join(root, 'vendor-1')];
    expect(await rejected(...back)).toContain('synthesis/pairs.yml: changed');
    expect(vendor()).toContain('# edited');
    await text(...back, '--discard-edits');
    expect(vendor()).toBe(vendorBefore);
  });
});
