import { rolldown } from 'rolldown';

/**
 * Bundles the entries as modules for Node and browsers. Entries share code in further modules, so an entry for browsers imports
 * nothing of Node as long as its sources do not.
 *
 * @param {Record<string, string>} entries file by name
 * @param {string} folder for `NAME.js` and the shared modules
 * @returns {Promise<string[]>} the bundled files
 */
export async function bundleModules(entries, folder) {
  const bundle = await rolldown({
    input: entries,
    platform: 'node',
    external: /^node:/,
    resolve: { conditionNames: ['source', 'import', 'default'] },
    logLevel: 'warn',
  });
  try {
    const { output } = await bundle.write({
      dir: folder,
      format: 'esm',
      entryFileNames: '[name].js',
      chunkFileNames: 'shared/[name]-[hash].js',
    });
    return output.flatMap((one) => (one.type === 'chunk' ? one.moduleIds : []));
  } finally {
    await bundle.close();
  }
}
