import { defineConfig } from 'vitest/config';

// Specs that measure gaps between chunks, or use fixed ports. They run one at a time, and no other
// spec runs meanwhile.
const TIMING_NAMES = ['passthrough', 'start', 'stream'];
const TIMING = TIMING_NAMES.map((name) => `tests/edge/${name}.spec.ts`);

const project = (name: string, include: string[], exclude: string[], maxWorkers: number) => ({
  test: {
    name,
    include,
    exclude,
    fileParallelism: maxWorkers > 1,
    maxWorkers,
    minWorkers: 1,
    // Ends a test that hangs. No test is a measurement: a busy machine takes many times as long.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});

export default defineConfig({
  test: {
    projects: [
      project('edge', ['tests/edge/**/*.spec.ts'], TIMING, 3),
      project('timing', TIMING, [], 1),
      project('www', ['tests/www/**/*.spec.ts'], [], 1),
    ],
  },
});
