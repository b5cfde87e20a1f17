// Measures the first load of indicators in a fresh process. WebCrypto verifies the HMAC of the
// indicators, as in the Worker, and Wasm parses them. Prints milliseconds. Arguments: the directory
// of the Wasm module, and a file of indicators.
import { readFileSync } from 'node:fs';
import { fromRoot } from '../scripts/lib/proc.mjs';

const [directory, file] = process.argv.slice(2);
const module = await import(fromRoot(directory, 'hedgerow_wasm.js'));
module.initSync({ module: readFileSync(fromRoot(directory, 'hedgerow_wasm_bg.wasm')) });
const bytes = readFileSync(file);
const key = await crypto.subtle.importKey(
  'raw',
  new Uint8Array(32),
  { name: 'HMAC', hash: 'SHA-256' },
  false,
  ['sign', 'verify'],
);
// The signature is invalid, which does not change the time: a failed verification hashes as many
// bytes as a successful verification.
const signature = await crypto.subtle.sign('HMAC', key, bytes.subarray(0, 8));
const began = performance.now();
await crypto.subtle.verify('HMAC', key, signature, bytes);
if (!(module.parse_indicators(bytes) > 0)) throw new Error('no indicators were parsed');
console.log(performance.now() - began);
