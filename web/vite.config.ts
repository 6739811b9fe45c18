import { defineConfig } from 'vite';
import { sizeLimit } from './build/size_limit.ts';

const host = process.env['KOHAKURIVER_HOST'] ?? 'http://127.0.0.1:8000';

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    target: 'es2022',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  worker: { format: 'es' },
  plugins: [sizeLimit(60 * 1024)],
  server: { proxy: { '/api': host } },
});
