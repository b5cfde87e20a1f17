// docs/first-week.md: runs every command of the page in order, with the real CLI against a fleet.
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_LINE } from '../../scripts/lib/build.mjs';
import { brokenLinks, expectLines, readSteps, Shell, type Step } from './page-commands.ts';
import { Admin } from './release-fixtures.ts';
import { eventually, Fleet, isBuilt, Origin, ROOT, useFilter, useOrigin } from './support.ts';

const PAGE = readFileSync(path.join(ROOT, 'docs/first-week.md'), 'utf8');
const STEPS = readSteps(PAGE);
const DAYS = [...new Set(STEPS.map(({ section }) => section))];

/** Lines of the page that the test does not run, with the reason. */
const NOT_RUN: Record<string, string> = {
  'npm start -- --origin http://127.0.0.1:9000':
    'its port is fixed, and another spec uses it; the test has a filter in its place',
  'cargo install --locked --path src/cli': 'it compiles for minutes; the test has the program',
};

/** Program that takes the place of `npx`: the commands that need a Cloudflare account. */
const NPX = `#!/bin/sh
case "$*" in
  'wrangler secret put '*) tr -d '\\n' > "$CLOUDFLARE/$4" ;;
  'wrangler deploy') touch "$CLOUDFLARE/deployed" ;;
  *) echo "npx $*: not a command that needs an account" >&2; exit 1 ;;
esac
`;

/** Values that the reader copies from an output: the last match before the first use. */
const COPIED: Record<string, RegExp> = {
  ACCOUNT: /^account +([0-9a-f]{32})$/gm,
  TENANT: /^tenant +([0-9a-f]{32})$/gm,
  CONTENT: /^([0-9a-f]{64}) +content digest$/gm,
  DRILL_ACCOUNT: /^account +([0-9a-f]{32})$/gm,
  REQUEST_ID: /^x-hedgerow-request-id: ([0-9a-f-]{36})\s*$/gim,
};

const uses = (commands: string, name: string) => new RegExp(`\\$${name}\\b`).test(commands);

/** Returns whether commands only read, so that they can be repeated until a change has arrived. */
function isRepeatable(commands: string) {
  const called = [...commands.matchAll(/\bhedgerow (\w+)/g)].map(([, name]) => name!);
  const isReading = called.every((name) => ['status', 'decision', 'decisions'].includes(name));
  return isReading && (called.length > 0 || /\bcurl /.test(commands));
}

function missingTool(): string | undefined {
  return ['bash', 'curl', 'gzip', 'openssl', 'perl'].find((tool) => {
    try {
      execFileSync('sh', ['-c', `command -v ${tool}`]);
      return false;
    } catch {
      return true;
    }
  });
}

const missing = missingTool();
if (missing) console.log(`skipped: ${missing} is not installed`);
const canRun = isBuilt(COMMAND_LINE, 'cargo build --release') && !missing;

it('the page has seven days, and its links lead somewhere', () => {
  const days = [1, 2, 3, 4, 5, 6, 7].map((number) => `Day ${number}`);
  expect(DAYS.map((day) => day.split(':')[0])).toEqual(days);
  expect(brokenLinks(path.join(ROOT, 'docs'), 'first-week.md')).toEqual([]);
  const lines = STEPS.flatMap(({ commands }) => commands.split('\n'));
  for (const line of Object.keys(NOT_RUN)) expect(lines).toContain(line);
  for (const name of Object.keys(COPIED)) expect(PAGE).toContain(`\`${name}\``);
});

describe.skipIf(!canRun)('the commands of the page', () => {
  let home: string;
  let shell: Shell;
  let fleet: Fleet | undefined;
  const origin = useOrigin(Origin.ok);
  const local = useFilter({ origin });
  const known = new Set<string>();
  const cloudflare = (name: string) => path.join(home, 'cloudflare', name);

  beforeAll(() => {
    home = mkdtempSync(path.join(tmpdir(), 'hedgerow-week-'));
    for (const name of ['bin', 'cloudflare', 'hedgerow']) mkdirSync(path.join(home, name));
    symlinkSync(COMMAND_LINE, path.join(home, 'bin/hedgerow'));
    writeFileSync(path.join(home, 'bin/npx'), NPX, { mode: 0o755 });
    shell = new Shell(home, {
      PATH: `${path.join(home, 'bin')}:${process.env.PATH}`,
      CLOUDFLARE: path.join(home, 'cloudflare'),
      TEST_KEY: 'sk-first-week-test-0001',
      JOB_KEY: 'sk-first-week-job-0002',
    });
  });
  afterAll(async () => {
    await fleet?.dispose();
    rmSync(home, { recursive: true, force: true });
  });

  /** Copies the logs of the reader into the project. */
  function writeLogs() {
    const fixture = (name: string) => path.join(ROOT, 'tests/fixtures/first-week', name);
    const project = path.join(home, 'edge-rules');
    for (const name of ['litellm.jsonl', 'access.log'])
      copyFileSync(fixture(name), path.join(project, name));
    mkdirSync(path.join(project, 'logpush'));
    const logpush = gzipSync(readFileSync(fixture('logpush.ndjson')));
    writeFileSync(path.join(project, 'logpush/20261128.log.gz'), logpush);
  }

  /** Starts the deployment, with the settings and secrets that the page has made. */
  async function deploy() {
    const publicKey = readFileSync(path.join(home, 'hedgerow-keys/signing.key.pub'), 'utf8');
    const names = ['ACCOUNT_SECRET', 'TAG_SECRET', 'ADMIN_TOKEN', 'STOP_TOKEN'];
    const secrets = names.map((name) => [name, readFileSync(cloudflare(name), 'utf8')]);
    fleet = await Fleet.start({
      origin,
      workers: 2,
      vars: {
        ...Object.fromEntries(secrets),
        PUBLIC_KEYS: publicKey.split('\n')[1]!,
        ENVIRONMENT: undefined,
      },
    });
  }

  /** Returns commands as the test runs them: without `NOT_RUN`, and with the tests' addresses. */
  function prepare(commands: string) {
    const lines = commands.split('\n').filter((line) => !(line in NOT_RUN));
    return lines
      .join('\n')
      .replaceAll('http://127.0.0.1:8787', local.url)
      .replaceAll('https://api.example.com', fleet?.edge.url ?? 'not-deployed')
      .replaceAll('"api.example.com"', '"127.0.0.1"');
  }

  /** Sets the variables that the reader copies from the outputs so far. */
  async function copyValues(commands: string) {
    for (const [name, pattern] of Object.entries(COPIED)) {
      if (known.has(name) || !uses(commands, name)) continue;
      const value = [...shell.transcript.matchAll(pattern)].at(-1)?.[1];
      expect(value, `${name} in the outputs:\n${shell.transcript}`).toBeDefined();
      await shell.set(name, value!);
      known.add(name);
    }
  }

  /** Waits until all isolates use the newest release. */
  async function settle() {
    if (!fleet) return;
    const token = readFileSync(cloudflare('ADMIN_TOKEN'), 'utf8');
    const { release } = await new Admin(fleet.edge, token).status();
    if (release) await fleet.untilRelease(release.serial);
  }

  async function runStep({ line, commands, expected }: Step) {
    await copyValues(commands);
    const attempt = async () => {
      // An isolate with traffic reports its decisions, and reads releases and stops.
      for (const edge of fleet?.edges ?? []) await edge.ask();
      const { code, output } = await shell.run(prepare(commands));
      expect(code, `docs/first-week.md:${line}\n${commands}\n\n${output}`).toBe(0);
      expectLines(output, expected);
    };
    if (isRepeatable(commands)) await eventually(`docs/first-week.md:${line}`, attempt);
    else await attempt();
    if (!fleet && existsSync(cloudflare('deployed'))) await deploy();
    await settle();
  }

  it.each(DAYS)('%s', async (day) => {
    if (day.startsWith('Day 1')) await shell.run('cd hedgerow');
    if (day.startsWith('Day 2')) writeLogs();
    for (const step of STEPS.filter(({ section }) => section === day)) await runStep(step);
  });
});
