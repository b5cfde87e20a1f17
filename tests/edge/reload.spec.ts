// Many rule changes do not make Wasm memory grow. Wasm memory can never shrink, so a leak would be
// permanent.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import {
  type Bundle,
  makeBundle,
  makeManifest,
  phrase,
  putSigned,
  signature,
  signBundle,
  signRelease,
} from './release-fixtures.ts';
import { chat, isBuilt, Origin, ROOT, useFleet, useOrigin } from './support.ts';

const RELOADS = 1000;
/** Number of reloads after which memory must no longer grow. */
const WARM_UP = 50;

/** Makes a bundle with literals, regexes and a list. */
const large = (weight: number): Bundle =>
  makeBundle(
    {},
    {
      signatures: Array.from({ length: 40 }, (_, number) =>
        signature(
          `lantern_${number}_${weight}`,
          weight,
          number % 3
            ? undefined
            : {
                regex: {
                  pattern: `quiet\\s+hedge(row|s)\\s+number ${number}`,
                  required_literals: [{ alternatives: ['quiet'], min_distance: 0 }],
                },
              },
        ),
      ),
      lists: [
        {
          name: 'list_known',
          title: 'Known',
          kind: 'address',
          weight: 1,
          entries: Array.from({ length: 100 }, (_, number) => ({
            value: `198.51.${number >> 8}.${number & 255}`,
          })),
        },
      ],
    },
  );

const mebibytes = (bytes: number) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;

const keys = keyPair();
const origin = useOrigin(Origin.ok);
const fleet = useFleet({
  origin,
  workers: 1,
  vars: { PUBLIC_KEYS: keys.publicKey, REFRESH_SECONDS: '0' },
});

it(
  `between ${WARM_UP} and ${RELOADS} releases, an isolate's memory does not grow`,
  async () => {
    const { edge } = fleet;
    const kv = await fleet.kv();
    const bundles = [large(5), large(6), large(7)] as const;
    for (const bundle of bundles)
      await putSigned(kv, `bundle/${bundle.digest}`, signBundle(keys, bundle));
    const health = async () =>
      (await (await edge.health()).json()) as {
        memory_bytes: number;
        release: number;
        rejection: string | null;
      };
    let warm = 0;
    const began = performance.now();
    for (let serial = 1; serial <= RELOADS; serial++) {
      const [active, other] = [bundles[serial % 3]!, bundles[(serial + 1) % 3]!];
      // Some releases have a canary or a shadow, which is a second ruleset in memory.
      const members =
        serial % 10 === 0
          ? { canary: { digest: other.digest, percent: 50 } }
          : serial % 10 === 5
            ? { shadow: { digest: other.digest } }
            : {};
      await putSigned(kv, 'release', signRelease(keys, makeManifest(serial, active, members)));
      for (let attempt = 1; ; attempt++) {
        const { status } = await edge.ask(phrase('lantern_1_5'));
        expect(status).toBe(200);
        const { release, ruleset } = await edge.version();
        if (release === serial) {
          expect(ruleset).toBe(active.digest);
          break;
        }
        if (attempt > 200)
          throw new Error(`release ${serial} does not arrive: ${(await health()).rejection}`);
      }
      origin.requests.length = fleet.logs.length = 0;
      if (serial === WARM_UP) warm = (await health()).memory_bytes;
    }
    const { memory_bytes, rejection } = await health();
    console.log(
      `Wasm memory: ${mebibytes(warm)} after ${WARM_UP} releases, ` +
        `${mebibytes(memory_bytes)} after ${RELOADS} ` +
        `(${((performance.now() - began) / 1000).toFixed(1)} s)`,
    );
    expect(rejection).toBeNull();
    // A ruleset takes hundreds of kilobytes, so this limit detects a leak of one ruleset in a
    // hundred.
    expect(memory_bytes - warm).toBeLessThan(1 << 20);
  },
);

const MODULE = path.join(ROOT, 'build/wasm/hedgerow_wasm.js');
const hasModule = isBuilt('build/wasm/hedgerow_wasm.js', 'node scripts/build.mjs wasm');

it.skipIf(!hasModule)(
  `between ${WARM_UP} and ${RELOADS} loads of a ruleset, the Wasm module's memory does not grow`,
  async () => {
    const core = await import(/* @vite-ignore */ MODULE);
    const { memory } = core.initSync({
      module: readFileSync(MODULE.replace('.js', '_bg.wasm')),
    }) as { memory: WebAssembly.Memory };
    const body = JSON.stringify(chat(`quiet hedgerow number 3; ${phrase('lantern_1_5')}`));
    const head = 'POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-demo';
    const request = `${head}\r\n\r\n${body}`;
    const bundles = [large(5).text, large(6).text];
    let warm = 0;
    for (let number = 1; number <= RELOADS; number++) {
      // Loads a ruleset, scores a request, and frees the ruleset.
      const filter = new core.Filter(bundles[number % 2]);
      const { llm_call, decision } = JSON.parse(filter.score(request, 1_795_000_000));
      filter.free();
      expect([llm_call, decision.hits.length > 0]).toEqual([true, true]);
      if (number === WARM_UP) warm = memory.buffer.byteLength;
    }
    console.log(
      `Wasm memory of the module: ${mebibytes(warm)} after ${WARM_UP} rulesets, ` +
        `${mebibytes(memory.buffer.byteLength)} after ${RELOADS}`,
    );
    expect(memory.buffer.byteLength - warm).toBeLessThan(1 << 20);
  },
);
