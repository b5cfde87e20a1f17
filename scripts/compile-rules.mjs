// Compiles rules with the Wasm module. Writes sources.json and bundle.json for the console, and
// embedded.json.br for the Worker.
//   node scripts/compile-rules.mjs DIRECTORY OUTPUT
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { Failure, fromRoot, main } from './lib/proc.mjs';

const isRule = (name) =>
  /\.ya?ml$|^(policy|families)\.toml$|^lists\/.*\.toml$|^seeds\/.*\.fuse$/.test(name);

/** Compresses a text as far as brotli can, with a window that the decoder of the Worker allows. */
function compress(text) {
  const { BROTLI_PARAM_LGWIN, BROTLI_PARAM_QUALITY, BROTLI_MAX_QUALITY } = constants;
  const params = { [BROTLI_PARAM_QUALITY]: BROTLI_MAX_QUALITY, [BROTLI_PARAM_LGWIN]: 22 };
  return brotliCompressSync(text, { params });
}

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
  const write = (name, content) => writeFileSync(path.join(output, name), content);
  write('embedded.json.br', compress(core.embedded_bundle(bundle)));
  write('bundle.json', bundle);
  write('sources.json', sources);
});
