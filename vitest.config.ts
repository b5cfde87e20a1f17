import { defineConfig } from 'vitest/config';

// Specs that measure gaps between chunks, compare fast with slow clients, or use fixed ports: no
// other spec may run meanwhile.
const TIMING_NAMES = ['passthrough', 'slow-uploads', 'start', 'stream'];
const TIMING = TIMING_NAMES.map((name) => `tests/edge/${name}.spec.ts`);

const project = (name: string, include: string[], exclude: string[] = []) => ({
  test: {
    name,
    include,
    exclude,
    // Ends a test that hangs. No test is a measurement: a busy machine takes many times as long.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});

export default defineConfig({
  test: {
    // Projects have no such setting of their own: `npm test` runs several specs of `edge` at once.
    fileParallelism: false,
    projects: [
      project('edge', ['tests/edge/**/*.spec.ts'], TIMING),
      project('timing', TIMING),
      project('www', ['tests/www/**/*.spec.ts']),
    ],
  },
});
