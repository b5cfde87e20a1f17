// npm run release: builds the archives of a release in dist/, with their sums.
//   node scripts/release.mjs [--targets TARGETS] [--sign KEYFILE]
//   --targets  targets of the command line, separated by commas (default: all)
//   --sign     secret key of minisign, which signs the sums
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { keyProblem, pack, sign, writeSums } from './lib/archive.mjs';
import { buildConsole, buildWorker } from './lib/build.mjs';
import { buildForTarget, CLI_TARGETS, targetProblems } from './lib/cli-targets.mjs';
import { endChildrenOnSignal, Failure, fromRoot, main, tryCapture } from './lib/proc.mjs';
import {
  commandLineParts,
  releaseEpoch,
  releaseVersion,
  workerParts,
  writeCommandLine,
  writeWorker,
} from './lib/release.mjs';
import { setup } from './lib/setup.mjs';

const DIST = fromRoot('dist');

/** Returns the options of the command line of this script. */
function readOptions() {
  const options = { targets: { type: 'string' }, sign: { type: 'string' } };
  let values;
  try {
    ({ values } = parseArgs({ options }));
  } catch (error) {
    const usage = 'npm run release -- [--targets TARGETS] [--sign KEYFILE]';
    throw new Failure(`${error.message}\n  Usage: ${usage}`);
  }
  const targets = values.targets?.split(',') ?? Object.keys(CLI_TARGETS);
  return { targets, key: values.sign };
}

/** Throws if a release cannot be made. Lists all reasons. */
function assertReady({ targets, key }) {
  const changed = tryCapture('git', ['status', '--porcelain']);
  const problems = [
    ...(changed ? ['files differ from the commit: commit them, or `git stash -u`.'] : []),
    ...targetProblems(targets),
    ...[keyProblem(key)].filter(Boolean),
    ...(key && tryCapture('minisign', ['-v']) === null
      ? ['minisign was not found: `apt-get install minisign`.']
      : []),
  ];
  if (problems.length) throw new Failure(`no release is made:\n  ${problems.join('\n  ')}`);
}

/** Packs a directory into dist/, and copies its bill of materials there. */
function publish({ parent, name, epoch, executables }) {
  pack({ parent, name, archive: path.join(DIST, `${name}.tar.gz`), epoch, executables });
  cpSync(path.join(parent, name, 'sbom.cdx.json'), path.join(DIST, `${name}.cdx.json`));
  console.log(`✓ dist/${name}.tar.gz`);
}

async function release() {
  const options = readOptions();
  const version = releaseVersion();
  const epoch = releaseEpoch();
  assertReady(options);
  await setup();
  const rules = fromRoot('rules');
  await buildWorker({ rules, profile: 'release' });
  await buildConsole({ rules, profile: 'release' });
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  const parent = mkdtempSync(path.join(tmpdir(), 'hedgerow-release-'));
  try {
    const name = `hedgerow-worker-${version}`;
    const common = { version, epoch };
    const out = path.join(parent, name);
    writeWorker({ ...common, build: fromRoot('build'), out, parts: workerParts() });
    publish({ parent, name, epoch });
    for (const target of options.targets) {
      const name = `hedgerow-cli-${version}-${target}`;
      const program = await buildForTarget(target);
      const parts = commandLineParts(target);
      writeCommandLine({ ...common, program, out: path.join(parent, name), parts });
      publish({ parent, name, epoch, executables: ['hedgerow'] });
    }
  } finally {
    rmSync(parent, { recursive: true });
  }
  const sums = writeSums(DIST);
  if (options.key) sign(sums, options.key, version);
  else console.log('The sums are not signed: `--sign KEYFILE` signs them with minisign.');
}

endChildrenOnSignal();
await main(release);
