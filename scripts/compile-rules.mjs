// Compiles rules with the Wasm module. Writes sources.json and bundle.json for the console, and
// embedded.json for the Worker.
//   node scripts/compile-rules.mjs DIRECTORY OUTPUT
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, main } from './lib/proc.mjs';

const isRule = (name) =>
  /\.ya?ml$|^policy\.toml$|^lists\/.*\.toml$|^seeds\/.*\.fuse$/.test(name);

await main(async () => {
  const [directory, output] = process.argv.slice(2);
  if (!output) throw new Failure('expected two arguments: DIRECTORY (such as `rules`) and OUTPUT');
  const files = readdirSync(directory, { recursive: true }).filter(isRule).sort();
  const read = (name) => readFileSync(path.join(directory, name), 'utf8');
  const sources = JSON.stringify(Object.fromEntries(files.map((name) => [name, read(name)])));
  const core = await import(fromRoot('build/wasm/hedgerow_wasm.js'));
  core.initSync({ module: readFileSync(fromRoot('build/wasm/hedgerow_wasm_bg.wasm')) });
  mkdirSync(output, { recursive: true });
  const write = (name, text) => writeFileSync(path.join(output, name), text);
  write('embedded.json', embeddedBundle(core, directory, sources));
  write('bundle.json', JSON.parse(core.check(sources)).bundle);
  write('sources.json', sources);
});

function embeddedBundle(core, directory, sources) {
  try {
    return core.embedded_bundle(sources);
  } catch (error) {
    throw new Failure(`${directory} has findings: expected none.\n${error.message}`);
  }
}
