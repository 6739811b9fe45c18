/* Fails the build when the first visit would load more than so many bytes: the page, its script with all that it imports
 * at once, its style sheet and the worker, each compressed as gzip does (brotli is smaller still). */
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

type Bundle = Parameters<Extract<Plugin['writeBundle'], (...args: never[]) => unknown>>[1];

/** File names of what the page loads before anybody clicks. */
export function initialFiles(bundle: Bundle): string[] {
  const wanted = new Set<string>(['index.html']);
  const visit = (name: string): void => {
    const item = bundle[name];
    if (wanted.has(name) || item === undefined) return;
    wanted.add(name);
    if (item.type === 'chunk') {
      item.imports.forEach(visit);
      item.viteMetadata?.importedCss.forEach((css) => wanted.add(css));
    }
  };
  for (const item of Object.values(bundle)) {
    if (item.type === 'chunk' && item.isEntry) visit(item.fileName);
    if (item.type === 'asset' && /worker/.test(item.fileName)) wanted.add(item.fileName);
  }
  return [...wanted].filter((name) => bundle[name] !== undefined);
}

export function sizeLimit(limit: number): Plugin {
  return {
    name: 'size-limit',
    apply: 'build',
    writeBundle(_options, bundle) {
      let total = 0;
      for (const name of initialFiles(bundle)) {
        const item = bundle[name]!;
        total += gzipSync(item.type === 'chunk' ? item.code : item.source, { level: 9 }).length;
      }
      const text = `first visit: ${(total / 1024).toFixed(1)} KiB of ${(limit / 1024).toFixed(0)} KiB compressed`;
      if (total > limit) this.error(text + ': too much');
      console.log(text);
    },
  };
}
