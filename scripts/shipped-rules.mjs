// Writes the rule files and the bundle built from them to build/rules/, for the console.
//   node scripts/shipped-rules.mjs DIRECTORY
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, main } from './lib/proc.mjs';

const isRule = (name) => /\.ya?ml$|^policy\.toml$|^lists\/.*\.toml$/.test(name);

await main(async () => {
  const [directory] = process.argv.slice(2);
  if (!directory) throw new Failure('argument DIRECTORY is missing: expected one, such as `rules`');
  const files = readdirSync(directory, { recursive: true }).filter(isRule).sort();
  const read = (name) => readFileSync(path.join(directory, name), 'utf8');
  const sources = Object.fromEntries(files.map((name) => [name, read(name)]));
  const core = await import(fromRoot('build/wasm/hedgerow_wasm.js'));
  core.initSync({ module: readFileSync(fromRoot('build/wasm/hedgerow_wasm_bg.wasm')) });
  const { bundle, findings } = JSON.parse(core.check(JSON.stringify(sources)));
  if (!bundle) {
    const remedy = `Run \`npm run hedgerow -- check ${directory}\`, which lists them.`;
    throw new Failure(`${directory} has ${findings.length} findings: expected none.\n  ${remedy}`);
  }
  mkdirSync(fromRoot('build/rules'), { recursive: true });
  writeFileSync(fromRoot('build/rules/sources.json'), JSON.stringify(sources));
  writeFileSync(fromRoot('build/rules/bundle.json'), bundle);
});
