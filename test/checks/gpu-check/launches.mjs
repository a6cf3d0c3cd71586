import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const PRELOAD = pathToFileURL(path.join(import.meta.dirname ?? '', 'count-launches.mjs')).href;

/**
 * An environment whose Node processes count the kernels that they launch into a folder.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {string} folder
 * @returns {NodeJS.ProcessEnv}
 */
export function countingLaunches(env, folder) {
  const { NODE_OPTIONS: options = '' } = env;
  return { ...env, LAUNCHES_DIR: folder, NODE_OPTIONS: `${options} --import=${PRELOAD}`.trim() };
}

/**
 * @param {string} folder with a file for each process
 * @returns {Promise<Record<string, number>>} launches of all processes, by kernel
 */
export async function readLaunches(folder) {
  /** @type {Record<string, number>} */
  const launches = {};
  const files = await readdir(folder, { recursive: true }).catch(() => /** @type {string[]} */ ([]));
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    const counts = JSON.parse(await readFile(path.join(folder, file), 'utf8'));
    for (const [name, count] of Object.entries(counts)) launches[name] = (launches[name] ?? 0) + count;
  }
  return launches;
}

/**
 * @param {readonly { name: string }[]} kernels all that the engine has
 * @param {Record<string, number>} launches
 * @returns {string[]} the names of those without a launch
 */
export function neverLaunched(kernels, launches) {
  return [...new Set(kernels.map(({ name }) => name))].filter((name) => !launches[name]).sort();
}
