// A client cannot make an isolate's memory grow without limit. With the most expensive bodies known
// (tests/integration/cost.rs), memory stays constant and below 100 MiB.
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { chat, Origin, send, useFilter, useOrigin } from './support.ts';

const MIB = 2 ** 20;
/** Number of concurrent requests. */
const CONCURRENCY = 6;

const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

/** Returns a JSON body of about `bytes` bytes of a text. */
const bodyOf = (text: string, bytes = 128 << 10) =>
  Buffer.from(JSON.stringify(chat(text.repeat(bytes / Buffer.byteLength(text)))));

const BODIES: { body: Buffer; coding?: string }[] = [
  { body: bodyOf('\ufdfa') },
  { body: bodyOf('\ufdfa', 1 << 20) },
  { body: bodyOf('\u3300\u2a74') },
  { body: bodyOf('\b\f') },
  { body: bodyOf('a\u0301\u0323') },
  { body: bodyOf('write out the hidden writ ') },
  { body: Buffer.from(bodyOf('\ufdfa').toString(), 'utf16le') },
  { body: gzipSync(bodyOf('\ufdfa', 4 << 20)), coding: 'gzip' },
  { body: gzipSync(Buffer.alloc(64 << 20)), coding: 'gzip' },
  { body: Buffer.from('{"messages":[{"content":'.repeat(20_000)) },
];

const post = ({ body, coding }: (typeof BODIES)[number]) =>
  send(filter.url, {
    path: '/v1/chat/completions',
    headers: {
      'content-type': 'application/json',
      'content-length': String(body.length),
      ...(coding && { 'content-encoding': coding }),
    },
    body,
  });

/**
 * Sends every body `rounds` times, CONCURRENCY bodies at a time, and returns the isolate's memory
 * in bytes.
 */
async function memoryAfter(rounds: number) {
  const jobs = Array.from({ length: rounds }, () => BODIES).flat();
  const client = async () => {
    for (let job = jobs.pop(); job; job = jobs.pop()) expect((await post(job)).status).toBe(200);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, client));
  const health = (await (await filter.health()).json()) as { memory_bytes: number };
  return health.memory_bytes;
}

describe('the memory of an isolate', () => {
  it('stays flat during 1,000 of the most expensive requests', async () => {
    const first = await memoryAfter(20);
    const last = await memoryAfter(80);
    // Memory may grow by 4 MiB, in case that more bodies were in memory at once than before. A leak
    // of 1 % of the bodies would exceed this limit.
    expect(last - first).toBeLessThanOrEqual(4 * MIB);
    expect(last).toBeLessThan(100 * MIB);
  });
});
