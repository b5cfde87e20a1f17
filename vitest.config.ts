import { defineConfig } from 'vitest/config';

// Specs that measure gaps between chunks, compare fast with slow clients, or use fixed ports. No
// other spec may run at the same time.
const TIMING_NAMES = ['passthrough', 'slow-uploads', 'start', 'stream'];
const TIMING = TIMING_NAMES.map((name) => `tests/edge/${name}.spec.ts`);

const project = (name: string, include: string[], exclude: string[] = []) => ({
  test: {
    name,
    include,
    exclude,
    // Ends tests that hang. The limit is high because tests take many times as long on a busy
    // machine. It is not meant to measure speed.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});

export default defineConfig({
  test: {
    // This setting applies to all projects. `npm test` overrides it, to run several specs of `edge`
    // in parallel.
    fileParallelism: false,
    projects: [
      project('edge', ['tests/edge/**/*.spec.ts'], TIMING),
      project('timing', TIMING),
      project('www', ['tests/www/**/*.spec.ts']),
    ],
  },
});
