// How much Wasm memory a ruleset takes, in a process that has nothing else: after it was taken over, and after a body was
// scored a hundred times. Prints JSON. Arguments: the module's directory, a bundle, a body.
import { readFileSync } from 'node:fs';
import { at } from '../scripts/lib/proc.mjs';

const [directory, bundle, body] = process.argv.slice(2);
const module = await import(at(directory, 'hedgerow_playground.js'));
const { memory } = module.initSync({ module: readFileSync(at(directory, 'hedgerow_playground_bg.wasm')) });
const empty = memory.buffer.byteLength;
const filter = new module.Bench(readFileSync(bundle, 'utf8'));
const loaded = memory.buffer.byteLength;
const bytes = readFileSync(body);
for (let i = 0; i < 100; i++) filter.whole_from_js(bytes);
console.log(JSON.stringify({ empty, loaded, scored: memory.buffer.byteLength }));
