// npm run test:sigma: converts every rule to the query language of another product with sigma-cli,
// the standard converter of Sigma rules.
import { existsSync, readdirSync } from 'node:fs';
import { endChildrenOnSignal, Failure, fromRoot, main, run, tryCapture } from './lib/proc.mjs';

const PACKAGES = ['sigma-cli==3.1.0', 'pysigma-backend-splunk==2.1.0'];
const VENV = fromRoot('.tools/venv');
const PIP = `${VENV}/bin/pip`;
const SIGMA = `${VENV}/bin/sigma`;
const CONVERT = ['convert', '-t', 'splunk', '--without-pipeline'];

async function sigma() {
  const canMakeVenv = (name) => tryCapture(name, ['-c', 'import venv, ensurepip']) !== null;
  const python = ['python3', 'python'].find(canMakeVenv);
  if (!python) return console.log('skipped: no Python with venv and pip');
  if (!isInstalled()) await install(python);
  const names = readdirSync(fromRoot('rules'), { recursive: true });
  const files = names.filter((file) => file.endsWith('.yml')).sort();
  if (!files.length) throw new Failure('rules/ has no rules: expected files *.yml');
  // Converts all files in one process, which is fast. After a failure, converts each file in its
  // own process, to find the rejected files.
  if (!converts(files)) {
    const rejected = files.filter((file) => !converts([file]));
    for (const file of rejected) {
      await run(SIGMA, [...CONVERT, fromRoot('rules', file)], { label: file }).catch(() => {});
    }
    const count = `${rejected.length} of ${files.length} files`;
    throw new Failure(`sigma convert rejected ${count}:\n  ${rejected.join('\n  ')}`);
  }
  console.log(`npm run test:sigma: ${files.length} files converted, 0 rejected`);
}

/** Returns whether sigma-cli converts rule files. */
function converts(files) {
  const paths = files.map((file) => fromRoot('rules', file));
  return tryCapture(SIGMA, [...CONVERT, ...paths], { maxBuffer: 64 << 20 }) !== null;
}

/** Returns whether the packages are installed at their pinned versions. */
function isInstalled() {
  if (!existsSync(SIGMA)) return false;
  const output = tryCapture(PIP, ['freeze', '--disable-pip-version-check']) ?? '';
  const installed = output.toLowerCase().split('\n');
  return PACKAGES.every((name) => installed.includes(name.toLowerCase()));
}

async function install(python) {
  if (!existsSync(PIP)) {
    await run(python, ['-m', 'venv', VENV], { label: 'python -m venv', quiet: true });
  }
  await run(PIP, ['install', '--quiet', '--disable-pip-version-check', ...PACKAGES], {
    label: 'pip install sigma-cli',
    quiet: true,
    remedy: 'Is PyPI reachable?',
  });
}

endChildrenOnSignal();
await main(sigma);
