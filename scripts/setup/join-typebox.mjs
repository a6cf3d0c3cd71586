import { mkdir, mkdtemp, readdir, readFile, realpath, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';

/** One of the folders that link to typebox, which is installed once. */
const TYPEBOX = path.join(ROOT_DIR, 'packages/contracts/node_modules/typebox');
const SHARED = 'build/joined';

/**
 * Joins the 709 modules of typebox into a few. Every process of ours loads it, and Node takes 0.3 s of processor time to
 * load that many modules. Each file that the package exports is replaced by one that exports the same; its types stay.
 * A set-up that dies meanwhile leaves a package that works.
 */
export async function joinTypebox() {
  const { rolldown } = await import('rolldown');
  const folder = await realpath(TYPEBOX);
  const { exports } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
  /** @type {string[]} */
  const files = Object.values(exports).map((entry) => path.normalize(entry.import));
  const partial = await mkdtemp(path.join(folder, '.joined-'));
  try {
    const joined = await rolldown({
      input: Object.fromEntries(files.map((file) => [file, path.join(folder, file)])),
      platform: 'node',
    });
    // The names of shared modules contain a hash of their content: files of two builds never mix.
    await joined.write({ dir: partial, entryFileNames: '[name]', chunkFileNames: `${SHARED}/[name]-[hash].mjs` });
    await mkdir(path.join(folder, SHARED), { recursive: true });
    const shared = await readdir(path.join(partial, SHARED));
    // First what the others import.
    for (const file of [...shared.map((name) => path.join(SHARED, name)), ...files]) {
      await rename(path.join(partial, file), path.join(folder, file));
    }
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}
