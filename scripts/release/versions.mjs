import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolders } from '../setup/locations.mjs';
import { SetupError } from '../setup/run-steps.mjs';

/** A version by semver.org, without what it calls build metadata, which no tag of an image may have. */
const SEMVER = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$/;
const MANIFEST_VERSION = /^ {2}"version": "(.+)",$/gm;

/** The files that name the version of the product, and how. @type {Record<string, RegExp>} */
const PLACES = {
  'package.json': MANIFEST_VERSION,
  'docker/helm/lorasmith/Chart.yaml': /^(?:version|appVersion): "?([^"\n]+)"?$/gm,
  'docker/Dockerfile': /^ARG VERSION=(.+)$/gm,
  'packages/service-kit/src/version.ts': /^export const PRODUCT_VERSION = '(.+)';$/gm,
  'openapi/openapi.json': MANIFEST_VERSION,
  'docs/client.md': /lorasmith-client-(\S+)\.tgz/g,
};

/**
 * The places where the version of the product is written.
 *
 * @param {string} root of the repository
 * @returns {Promise<{ file: string, version: string }[]>}
 * @throws {Error} when a file no longer has it
 */
export async function versionPlaces(root) {
  const places = [];
  for (const [file, pattern] of filesWithVersion(root)) {
    const found = [...(await readFile(path.join(root, file), 'utf8')).matchAll(pattern)];
    if (found.length === 0) throw new Error(`${file} does not say the version of the product.`);
    places.push(...found.map(([, version = '']) => ({ file, version })));
  }
  return places;
}

/**
 * The version of the product, which all files must agree on.
 *
 * @param {string} root of the repository
 * @throws {SetupError} naming the files that say another one than package.json, or the changelog that says nothing about it
 */
export async function productVersion(root) {
  const places = await versionPlaces(root);
  const version = places.find(({ file }) => file === 'package.json')?.version ?? '';
  const others = places.filter((place) => place.version !== version);
  if (others.length > 0) {
    throw new SetupError(
      `package.json has version ${version}, but ${others.map((one) => `${one.file} ${one.version}`).join(', ')}`,
      `run npm run release -- --set-version ${version}, and commit what it changes.`,
    );
  }
  if (!(await readFile(path.join(root, 'CHANGELOG.md'), 'utf8')).includes(`\n## ${version},`)) {
    throw new SetupError(`CHANGELOG.md has no section "## ${version}, DATE"`, 'write what changes in this version.');
  }
  return version;
}

/**
 * Writes a version wherever the product names its own.
 *
 * @param {string} root of the repository @param {string} version
 * @returns {Promise<string[]>} the changed files
 * @throws {SetupError} when it is none
 */
export async function setVersion(root, version) {
  if (!SEMVER.test(version)) {
    throw new SetupError(`${version} is no version`, 'name one as semver.org says, such as 1.2.0 or 1.2.0-rc.1.');
  }
  const changed = [];
  for (const [file, pattern] of filesWithVersion(root)) {
    const text = await readFile(path.join(root, file), 'utf8');
    const next = text.replaceAll(pattern, (place, old) => place.replace(old, version));
    if (next === text) continue;
    await writeFile(path.join(root, file), next);
    changed.push(file);
  }
  return changed;
}

/** @param {string} root @returns {[string, RegExp][]} */
function filesWithVersion(root) {
  return [
    ...Object.entries(PLACES),
    ...packageFolders(root).map(
      (folder) => /** @type {[string, RegExp]} */ ([`${folder}/package.json`, MANIFEST_VERSION]),
    ),
  ];
}
