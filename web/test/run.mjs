/* The unit tests: TypeScript made into one script by esbuild, run by Node's own test runner, results as TAP.
 *   npm test [PART OF A FILE NAME] */
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = join(dirname(fileURLToPath(import.meta.url)), 'unit');
const wanted = process.argv[2] ?? '';
const files = readdirSync(here).filter((name) => name.endsWith('.test.ts') && name.includes(wanted));
const folder = mkdtempSync(join(tmpdir(), 'kohakuriver-web-'));
try {
  const outfile = join(folder, 'tests.mjs');
  await build({
    stdin: { contents: files.map((name) => `import './${name}';`).join('\n'), resolveDir: here },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node18',
    outfile,
  });
  const done = spawnSync(process.execPath, ['--test-reporter=tap', outfile], { stdio: 'inherit' });
  process.exitCode = done.status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
