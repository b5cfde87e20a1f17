import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/{edge,www}/**/*.spec.ts'],
    // Specs measure gaps between chunks and share two cores with workerd: one file at a time.
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
