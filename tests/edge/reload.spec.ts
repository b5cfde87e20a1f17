// Rules may be exchanged as often as one likes: Wasm's memory, which grows and never shrinks, stays as it is.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { type Bundle, bundleOf, phrase, putSigned, releaseOf, signature, signBundle, signRelease } from './release.ts';
import { chat, Fleet, Origin, ROOT } from './support.ts';

const RELOADS = 1000;
/** By when everything has been allocated once. */
const WARM = 50;

/** All that rules are made of: literals, regexes, a list. */
const large = (weight: number): Bundle =>
  bundleOf({}, {
    signatures: Array.from({ length: 40 }, (_, number) => signature(`lantern_${number}_${weight}`, weight, number % 3 ? undefined : { regex: { pattern: `quiet\\s+hedge(row|s)\\s+number ${number}`, required_literals: [{ alternatives: ['quiet'], min_distance: 0 }] } })),
    lists: [{ name: 'list_known', title: 'Known', kind: 'address', weight: 1, entries: Array.from({ length: 100 }, (_, number) => ({ value: `198.51.${number >> 8}.${number & 255}` })) }],
  });

const MIB = (bytes: number) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;

it(`an isolate's memory after ${RELOADS} releases is what it was after ${WARM}`, { timeout: 120_000 }, async () => {
  const keys = keyPair();
  const origin = await Origin.start();
  origin.answer = Origin.ok;
  const fleet = await Fleet.start({ origin, workers: 1, vars: { PUBLIC_KEYS: keys.publicKey, REFRESH_SECONDS: '0' } });
  try {
    const { edge } = fleet;
    const kv = await fleet.kv();
    const bundles = [large(5), large(6), large(7)] as const;
    for (const bundle of bundles) await putSigned(kv, `bundle/${bundle.digest}`, signBundle(keys, bundle));
    const health = async () => (await (await edge.health()).json()) as { memory_bytes: number; release: number; refused: string | null };
    let warm = 0;
    const began = performance.now();
    for (let serial = 1; serial <= RELOADS; serial++) {
      const [active, other] = [bundles[serial % 3]!, bundles[(serial + 1) % 3]!];
      // A canary and a shadow now and then: they are rulesets, too.
      const rest = serial % 10 === 0 ? { canary: { digest: other.digest, percent: 50 } } : serial % 10 === 5 ? { shadow: { digest: other.digest } } : {};
      await putSigned(kv, 'release', signRelease(keys, releaseOf(serial, active, rest)));
      for (let tries = 1; ; tries++) {
        const { status } = await edge.ask(phrase('lantern_1_5'));
        expect(status).toBe(200);
        const { release, ruleset } = await edge.version();
        if (release === serial) {
          expect(ruleset).toBe(active.digest);
          break;
        }
        if (tries > 200) throw new Error(`release ${serial} does not arrive: ${(await health()).refused}`);
      }
      origin.seen.length = fleet.logs.length = 0;
      if (serial === WARM) warm = (await health()).memory_bytes;
    }
    const { memory_bytes, refused } = await health();
    console.log(`Wasm memory: ${MIB(warm)} after ${WARM} releases, ${MIB(memory_bytes)} after ${RELOADS} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
    expect(refused).toBeNull();
    // A leak of one ruleset in a hundred would be seen: each has hundreds of kilobytes.
    expect(memory_bytes - warm).toBeLessThan(1 << 20);
  } finally {
    await fleet.dispose();
    await origin.close();
  }
});

const MODULE = path.join(ROOT, 'build/wasm/hedgerow_wasm.js');
const built = existsSync(MODULE);
if (!built) console.log('skipped: build/wasm/ does not exist (`node scripts/build.mjs wasm`)');

it.skipIf(!built)(`the core's memory after loading a ruleset ${RELOADS} times is what it was after ${WARM}`, { timeout: 120_000 }, async () => {
  const core = await import(/* @vite-ignore */ MODULE);
  const { memory } = core.initSync({ module: readFileSync(MODULE.replace('.js', '_bg.wasm')) }) as { memory: WebAssembly.Memory };
  const request = `POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-demo\r\n\r\n${JSON.stringify(chat(`quiet hedgerow number 3; ${phrase('lantern_1_5')}`))}`;
  const bundles = [large(5).text, large(6).text];
  let warm = 0;
  for (let number = 1; number <= RELOADS; number++) {
    // Loads the ruleset, scores, and drops it.
    const filter = new core.Filter(bundles[number % 2]);
    const { llm_call, decision } = JSON.parse(filter.score(request, 1_795_000_000));
    filter.free();
    expect([llm_call, decision.hits.length > 0]).toEqual([true, true]);
    if (number === WARM) warm = memory.buffer.byteLength;
  }
  console.log(`Wasm memory of the playground: ${MIB(warm)} after ${WARM} rulesets, ${MIB(memory.buffer.byteLength)} after ${RELOADS}`);
  expect(memory.buffer.byteLength - warm).toBeLessThan(1 << 20);
});
