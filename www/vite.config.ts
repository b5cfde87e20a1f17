import path from 'node:path';
import { defineConfig } from 'vite';

// The Worker serves what lies below `_hedgerow/` of build/console under that very path.
export default defineConfig({
  root: import.meta.dirname,
  base: '/_hedgerow/',
  build: {
    outDir: path.join(import.meta.dirname, '../build/console/_hedgerow'),
    emptyOutDir: true,
    target: 'es2024',
    // Nothing inline: the Content-Security-Policy knows only files.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // The Worker gives the rules to those who may have them.
    rollupOptions: { output: { assetFileNames: ({ names: [name] }) => (name?.endsWith('.json') ? 'rules/[name]-[hash][extname]' : 'assets/[name]-[hash][extname]') } },
  },
  worker: { format: 'es' },
  // The console's own names; those of the Worker stay what they are.
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
});
