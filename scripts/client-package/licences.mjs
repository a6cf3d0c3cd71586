import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * The licences of the npm packages that files are from.
 *
 * @param {string[]} files absolute
 * @returns {Promise<string>}
 * @throws {Error} when a package has no licence file
 */
export async function licencesOf(files) {
  const folders = new Set(files.flatMap((file) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []));
  const texts = await Promise.all([...folders].sort().map(licenceOf));
  return [...new Set(texts)].join(`\n${'-'.repeat(80)}\n\n`);
}

/** @param {string} folder */
async function licenceOf(folder) {
  const { name, version, license } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
  const file = (await readdir(folder)).find((one) => /^licen[cs]e(\.|$)/i.test(one));
  if (file === undefined) throw new Error(`${name} ${version} has no licence file in ${folder}`);
  return `${name} ${version} (${license})\n\n${(await readFile(path.join(folder, file), 'utf8')).trim()}\n`;
}
