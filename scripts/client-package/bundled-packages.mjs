import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * @typedef {object} BundledPackage
 * @property {string} folder
 * @property {string} name
 * @property {string} version
 * @property {string} license
 */

/**
 * The npm packages that files are from.
 *
 * @param {string[]} files absolute
 * @returns {Promise<BundledPackage[]>} sorted by folder
 */
export async function bundledPackages(files) {
  const folders = new Set(files.flatMap((file) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []));
  return await Promise.all(
    [...folders].sort().map(async (folder) => {
      const { name, version, license } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
      return { folder, name, version, license };
    }),
  );
}

/**
 * @param {BundledPackage[]} packages
 * @returns {Promise<string>}
 * @throws {Error} when a package has no licence file
 */
export async function licencesOf(packages) {
  const texts = await Promise.all(packages.map(licenceOf));
  return [...new Set(texts)].join(`\n${'-'.repeat(80)}\n\n`);
}

/** @param {BundledPackage} bundled */
async function licenceOf({ folder, name, version, license }) {
  const file = (await readdir(folder)).find((one) => /^licen[cs]e(\.|$)/i.test(one));
  if (file === undefined) throw new Error(`${name} ${version} has no licence file in ${folder}`);
  return `${name} ${version} (${license})\n\n${(await readFile(path.join(folder, file), 'utf8')).trim()}\n`;
}
