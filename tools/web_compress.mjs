// node web_compress.mjs DIR: beside each file of DIR that gets smaller by it, FILE.gz and FILE.br.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

function* files(folder) {
  for (const name of readdirSync(folder).sort()) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else if (!/\.(gz|br)$/.test(name)) yield path;
  }
}

for (const path of files(process.argv[2])) {
  const plain = readFileSync(path);
  const br = brotliCompressSync(plain, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length },
  });
  const gz = gzipSync(plain, { level: 9 });
  if (gz.length < plain.length * 0.95) writeFileSync(path + '.gz', gz);
  if (br.length < plain.length * 0.95) writeFileSync(path + '.br', br);
}
