// npm run test:sigma: sigma-cli, the tool detection engineers use, converts every file of rules/ for another backend.
import { existsSync, readdirSync } from 'node:fs';
import { fromRoot, tryCapture, endChildrenOnSignal, Failure, main, run } from './lib/proc.mjs';

const PACKAGES = ['sigma-cli==3.1.0', 'pysigma-backend-splunk==2.1.0'];

async function sigma() {
  const python = ['python3', 'python'].find((name) => tryCapture(name, ['-c', 'import venv, ensurepip']) !== null);
  if (!python) return console.log('skipped: no Python with venv and pip');
  const bin = fromRoot('.tools/venv/bin');
  const missing = () => !existsSync(`${bin}/sigma`) || !PACKAGES.every((name) => frozen(bin).includes(name.toLowerCase()));
  if (missing()) {
    if (!existsSync(`${bin}/pip`)) await run(python, ['-m', 'venv', fromRoot('.tools/venv')], { label: 'python -m venv', quiet: true });
    await run(`${bin}/pip`, ['install', '--quiet', '--disable-pip-version-check', ...PACKAGES], { label: 'pip install sigma-cli', quiet: true, remedy: 'Is PyPI reachable?' });
  }
  const files = readdirSync(fromRoot('rules'), { recursive: true }).filter((file) => file.endsWith('.yml')).sort();
  if (!files.length) throw new Failure('no rules in rules/');
  // All at once is fast; one by one names the culprits.
  const convert = (paths) => tryCapture(`${bin}/sigma`, ['convert', '-t', 'splunk', '--without-pipeline', ...paths.map((file) => fromRoot('rules', file))], { maxBuffer: 64 << 20 });
  const whole = convert(files);
  if (whole === null) {
    const refused = files.filter((file) => convert([file]) === null);
    for (const file of refused) await run(`${bin}/sigma`, ['convert', '-t', 'splunk', '--without-pipeline', fromRoot('rules', file)], { label: file }).catch(() => {});
    throw new Failure(`sigma convert refused ${refused.length} of ${files.length} files:\n  ${refused.join('\n  ')}`);
  }
  console.log(`npm run test:sigma: ${files.length} files converted, 0 refused`);
}

const frozen = (bin) => (tryCapture(`${bin}/pip`, ['freeze', '--disable-pip-version-check']) ?? '').toLowerCase().split('\n');

endChildrenOnSignal();
await main(sigma);
