// Writes the rule files and the bundle built from them to build/rules/, for the console.
//   node scripts/shipped-rules.mjs DIRECTORY
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, main } from './lib/proc.mjs';

const isRule = (name) => /\.ya?ml$|^policy\.toml$|^lists\/.*\.toml$/.test(name);

await main(async () => {
  const [directory] = process.argv.slice(2);
  if (!directory) throw new Failure('no directory of rules was given: expected one, for example `rules`');
  const files = readdirSync(directory, { recursive: true }).filter(isRule).sort();
  const sources = Object.fromEntries(files.map((name) => [name, readFileSync(path.join(directory, name), 'utf8')]));
  const core = await import(fromRoot('build/wasm/hedgerow_wasm.js'));
  core.initSync({ module: readFileSync(fromRoot('build/wasm/hedgerow_wasm_bg.wasm')) });
  const { bundle, findings } = JSON.parse(core.check(JSON.stringify(sources)));
  if (!bundle) {
    throw new Failure(`${directory} has ${findings.length} findings.\n  \`npm run hedgerow -- check ${directory}\` lists them.`);
  }
  mkdirSync(fromRoot('build/rules'), { recursive: true });
  writeFileSync(fromRoot('build/rules/sources.json'), JSON.stringify(sources));
  writeFileSync(fromRoot('build/rules/bundle.json'), bundle);
});
