// Measures the Wasm memory of a ruleset in a fresh process: empty, after loading a bundle, and
// after scoring one body a hundred times. Prints JSON, in bytes. Arguments: the directory of the
// Wasm module, a bundle, a body.
import { readFileSync } from 'node:fs';
import { fromRoot } from '../scripts/lib/proc.mjs';

const [directory, bundle, body] = process.argv.slice(2);
const module = await import(fromRoot(directory, 'hedgerow_wasm.js'));
const { memory } = module.initSync({
  module: readFileSync(fromRoot(directory, 'hedgerow_wasm_bg.wasm')),
});
const empty = memory.buffer.byteLength;
const phases = new module.PhaseBench(readFileSync(bundle, 'utf8'));
const loaded = memory.buffer.byteLength;
const bytes = readFileSync(body);
for (let i = 0; i < 100; i++) phases.run_all_with_copy(bytes);
console.log(JSON.stringify({ empty, loaded, scored: memory.buffer.byteLength }));
