import path from 'node:path';
import { defineConfig } from 'vite';

// Puts the rules in a separate folder, which the Worker serves only to authorised clients.
const assetFileNames = ({ names: [name] }: { names: string[] }) =>
  name?.endsWith('.json') ? 'rules/[name]-[hash][extname]' : 'assets/[name]-[hash][extname]';

export default defineConfig({
  root: import.meta.dirname,
  // The Worker serves build/console/_hedgerow under this path.
  base: '/_hedgerow/',
  build: {
    outDir: path.join(import.meta.dirname, '../build/console/_hedgerow'),
    emptyOutDir: true,
    target: 'es2024',
    // Never inlines assets, because the Content-Security-Policy forbids inline content.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: { output: { assetFileNames } },
  },
  worker: { format: 'es' },
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
});
