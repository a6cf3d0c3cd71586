import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { rolldown } from 'rolldown';
import { dts } from 'rolldown-plugin-dts';
import { ROOT_DIR } from '../setup/locations.mjs';

/** The folder of TypeBox's declarations, in this repository. */
const TYPEBOX = path.join(ROOT_DIR, 'packages/contracts/node_modules/typebox/build');

/**
 * Bundles declarations with those that they need, so that they are complete without other packages. TypeBox's are copied file by
 * file: as one file they are not valid, because some of their names are those of type parameters elsewhere.
 *
 * @param {Record<string, string>} entries declaration file by name
 * @param {string} folder for `NAME.d.ts`, shared declarations and `typebox/`
 * @returns {Promise<string[]>} the files that are in them
 */
export async function bundleTypes(entries, folder) {
  const bundle = await rolldown({
    input: entries,
    external: [/^node:/, 'typebox'],
    resolve: { conditionNames: ['types', 'import', 'default'] },
    plugins: [dts({ dtsOnly: true, generator: 'oxc', tsconfig: false, sourcemap: false })],
    logLevel: 'warn',
  });
  try {
    const { output } = await bundle.generate({
      format: 'esm',
      entryFileNames: '[name].d.ts',
      chunkFileNames: '[name]-[hash].d.ts',
    });
    const chunks = output.flatMap((one) => (one.type === 'chunk' ? [one] : []));
    for (const { fileName, code } of chunks) {
      await writeFile(path.join(folder, fileName), code.replaceAll('from "typebox"', 'from "./typebox/index.mjs"'));
    }
    const copied = new Set();
    await copyDeclarations('index.d.mts', path.join(folder, 'typebox'), copied);
    return [...chunks.flatMap(({ moduleIds }) => moduleIds), ...copied];
  } finally {
    await bundle.close();
  }
}

/**
 * Copies a declaration file of TypeBox with all that it imports.
 *
 * @param {string} file relative to TypeBox's folder @param {string} folder
 * @param {Set<string>} copied receives the copied files
 */
async function copyDeclarations(file, folder, copied) {
  const source = path.join(TYPEBOX, file);
  if (copied.has(source)) return;
  copied.add(source);
  const target = path.join(folder, file);
  await mkdir(path.dirname(target), { recursive: true });
  await copyFile(source, target);
  for (const [, specifier = ''] of (await readFile(source, 'utf8')).matchAll(/["'](\.\.?\/[^"']+)\.mjs["']/g)) {
    await copyDeclarations(path.join(path.dirname(file), `${specifier}.d.mts`), folder, copied);
  }
}
