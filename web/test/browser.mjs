/* What is done in a real browser: browser.mjs browser|screenshots|bench [PART OF A TEST'S NAME]
 * TypeScript is made into one script by esbuild; tests report as TAP. Called by tests/web/run.py, which looks for what is needed. */
import { build } from 'esbuild';
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [what = 'browser', wanted = process.env['TEST_NAMES']] = process.argv.slice(2);
// Below node_modules, so that packages that are not bundled are found.
const folder = join(here, '..', 'node_modules', '.cache', `kohakuriver-${process.pid}`);
mkdirSync(folder, { recursive: true });
const outfile = join(folder, `${what}.mjs`);
await build({
  entryPoints: [join(here, 'browser', what === 'browser' ? 'all.ts' : `${what}.ts`)],
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node18',
  packages: 'external',
  outfile,
});
const names = what === 'browser' && wanted ? [`--test-name-pattern=^\\(|${wanted.split(',').join('|')}`] : [];
const child = spawn(process.execPath, [...(what === 'browser' ? ['--test-reporter=tap', ...names] : []), outfile], { stdio: 'inherit' });
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => child.kill(signal));
child.on('exit', (code) => {
  rmSync(folder, { recursive: true, force: true });
  process.exit(code ?? 1);
});
