// Compiles rules with the Wasm module. Writes sources.json and bundle.json for the console, and
// embedded.json for the Worker.
//   node scripts/compile-rules.mjs DIRECTORY OUTPUT
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, main } from './lib/proc.mjs';

const isRule = (name) =>
  /\.ya?ml$|^(policy|families)\.toml$|^lists\/.*\.toml$|^seeds\/.*\.fuse$/.test(name);

const format = ({ path: file, line, column, problem, remedy }) =>
  `  ${file}:${line}:${column}: ${problem}; ${remedy}`;

await main(async () => {
  const [directory, output] = process.argv.slice(2);
  if (!output) throw new Failure('expected two arguments: DIRECTORY (such as `rules`) and OUTPUT');
  const files = readdirSync(directory, { recursive: true }).filter(isRule).sort();
  const read = (name) => readFileSync(path.join(directory, name), 'utf8');
  const sources = JSON.stringify(Object.fromEntries(files.map((name) => [name, read(name)])));
  const core = await import(fromRoot('build/wasm/hedgerow_wasm.js'));
  core.initSync({ module: readFileSync(fromRoot('build/wasm/hedgerow_wasm_bg.wasm')) });
  const { bundle, findings } = JSON.parse(core.check(sources));
  if (!bundle) throw new Failure(`${directory} has findings:\n${findings.map(format).join('\n')}`);
  mkdirSync(output, { recursive: true });
  const write = (name, text) => writeFileSync(path.join(output, name), text);
  write('embedded.json', core.embedded_bundle(bundle));
  write('bundle.json', bundle);
  write('sources.json', sources);
});
