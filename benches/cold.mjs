// What taking over indicators costs the first time, in a process that has done nothing else: authenticating them by the
// platform, as the Worker does, and reading them in Wasm. Prints milliseconds. Arguments: the module's directory, a file.
import { readFileSync } from 'node:fs';
import { at } from '../scripts/lib/proc.mjs';

const [directory, file] = process.argv.slice(2);
const module = await import(at(directory, 'hedgerow_playground.js'));
module.initSync({ module: readFileSync(at(directory, 'hedgerow_playground_bg.wasm')) });
const bytes = readFileSync(file);
const key = await crypto.subtle.importKey('raw', new Uint8Array(32), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
const signature = await crypto.subtle.sign('HMAC', key, bytes.subarray(0, 8));
const began = performance.now();
await crypto.subtle.verify('HMAC', key, signature, bytes);
if (!(module.indicators(bytes) > 0)) throw new Error('no indicators were read');
console.log(performance.now() - began);
