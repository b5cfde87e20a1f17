import { defineConfig } from 'vitest/config';

// Specs that measure gaps between chunks, restart workerd or use fixed ports: one file at a time, nothing beside them.
const TIMING = ['correlate', 'ledger', 'outage', 'passthrough', 'reload', 'start', 'stream'].map((name) => `tests/edge/${name}.spec.ts`);

const project = (name: string, include: string[], exclude: string[], maxWorkers: number) => ({
  test: {
    name,
    include,
    exclude,
    fileParallelism: maxWorkers > 1,
    maxWorkers,
    minWorkers: 1,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});

export default defineConfig({
  test: {
    projects: [
      project('edge', ['tests/edge/**/*.spec.ts'], TIMING, 2),
      project('timing', TIMING, [], 1),
      project('www', ['tests/www/**/*.spec.ts'], [], 1),
    ],
  },
});
