// node packages/page/build-site.mjs: builds the page into dist/site, unless it is there already. Each file that compresses
// well also gets a .gz and a .br, which the api sends.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const FOLDER = import.meta.dirname;
const ROOT = path.resolve(FOLDER, '../..');
const SITE = path.join(FOLDER, 'dist/site');
/** Digest of the sources from which the site was built. It lies in the site, so that both appear with one rename. */
const KEY_FILE = 'built-from';
const SOURCES = [
  'pnpm-lock.yaml',
  'packages/client/src',
  'packages/contracts/src',
  'packages/planning/src/validation-split.ts',
  'packages/seeded-random/src',
  ...['build-site.mjs', 'index.html', 'src', 'vite.config.ts'].map((name) => `packages/page/${name}`),
];
const COMPRESSED = /\.(css|html|js|md|svg)$/;

/** @returns {Promise<string>} one line for a report */
export async function buildSite() {
  const key = await digestOf(SOURCES);
  const built = path.join(SITE, KEY_FILE);
  if (existsSync(built) && (await readFile(built, 'utf8')) === key) return 'in place';

  const partial = path.join(FOLDER, `dist/.site-${process.pid}`);
  try {
    const { build } = await import('vite');
    await inProduction(() => build({ root: FOLDER, logLevel: 'warn', build: { outDir: partial, emptyOutDir: true } }));
    await compressFiles(partial);
    await writeFile(path.join(partial, KEY_FILE), key);
    await rm(SITE, { recursive: true, force: true });
    await rename(partial, SITE);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return 'built';
}

/** Vite builds for the NODE_ENV that it finds: in a test another page, 10 kB larger. @param {() => Promise<unknown>} work */
async function inProduction(work) {
  const { NODE_ENV } = process.env;
  process.env.NODE_ENV = 'production';
  try {
    await work();
  } finally {
    process.env.NODE_ENV = NODE_ENV;
    if (NODE_ENV === undefined) delete process.env.NODE_ENV;
  }
}

/** @param {string} folder */
async function compressFiles(folder) {
  for (const name of await filesBelow(folder)) {
    if (!COMPRESSED.test(name)) continue;
    const file = path.join(folder, name);
    const bytes = await readFile(file);
    await writeFile(`${file}.gz`, gzipSync(bytes, { level: 9 }));
    const params = { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    await writeFile(`${file}.br`, brotliCompressSync(bytes, { params }));
  }
}

/** @param {string[]} sources files and folders, from the root of the repository */
async function digestOf(sources) {
  const hash = createHash('sha256');
  for (const source of sources) {
    const place = path.join(ROOT, source);
    const isFile = path.extname(source) !== '';
    const names = isFile ? [''] : (await filesBelow(place)).filter((name) => !name.includes('.test.'));
    for (const name of names) hash.update(`${source}/${name}\n`).update(await readFile(path.join(place, name)));
  }
  return hash.digest('hex');
}

/** @param {string} folder @returns {Promise<string[]>} paths relative to it, sorted */
async function filesBelow(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name))).sort();
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) console.log(await buildSite());
