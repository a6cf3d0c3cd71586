import { readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * The workspace packages that a service needs to run, itself included.
 *
 * @param {string} root of the workspace
 * @param {string} service such as `api`
 * @returns {Promise<string[]>} their folders, such as `packages/contracts`, sorted
 */
export async function servicePackages(root, service) {
  const folders = new Set([`services/${service}`]);
  for (const folder of folders) {
    const { dependencies = {} } = JSON.parse(await readFile(path.join(root, folder, 'package.json'), 'utf8'));
    for (const name of Object.keys(dependencies)) {
      if (name.startsWith('@lorasmith/')) folders.add(`packages/${name.slice('@lorasmith/'.length)}`);
    }
  }
  return [...folders].sort();
}
