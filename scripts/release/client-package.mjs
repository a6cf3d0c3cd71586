import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { rolldown } from 'rolldown';
import { dts } from 'rolldown-plugin-dts';
import { ROOT_DIR } from '../setup/locations.mjs';
import { cyclonedx, eachOnce, npmComponent } from './cyclonedx.mjs';

/**
 * Packs `@lorasmith/client` as npm does. The package of the workspace contains its sources and needs other packages of the
 * workspace; the packed one is complete in itself.
 *
 * @param {string} destination an existing folder
 * @returns {Promise<string>} the name of the file in it
 */
export async function packClient(destination) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-pack-'));
  try {
    await writePackage(folder);
    const args = ['pack', '--json', '--offline', '--pack-destination', path.resolve(destination)];
    const { stdout } = await promisify(execFile)('npm', args, { cwd: folder });
    return JSON.parse(stdout)[0].filename;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Entry points of the package, and whether programs import them. `lora` is the command. */
const ENTRIES = { index: '.', core: './core', lora: null };

/**
 * Writes the package `@lorasmith/client` without dependencies: what it imports from the workspace and from npm is in its modules
 * and declarations, and listed in `sbom.cdx.json`.
 *
 * @param {string} folder an empty one
 */
async function writePackage(folder) {
  const source = path.join(ROOT_DIR, 'packages/client');
  const { name, version, description, type, license, engines } = JSON.parse(
    await readFile(path.join(source, 'package.json'), 'utf8'),
  );
  const dist = path.join(folder, 'dist');
  await mkdir(dist);
  const entries = Object.fromEntries(
    Object.keys(ENTRIES).map((entry) => [entry, path.join(source, `src/${entry}.ts`)]),
  );
  const modules = await bundleModules(entries, dist);
  const imported = Object.entries(ENTRIES).filter(([, specifier]) => specifier !== null);
  const declarations = Object.fromEntries(imported.map(([entry]) => [entry, path.join(source, `dist/${entry}.d.ts`)]));
  const declared = await bundleTypes(declarations, dist);
  const exports = Object.fromEntries(
    imported.map(([entry, specifier]) => [specifier, { types: `./dist/${entry}.d.ts`, default: `./dist/${entry}.js` }]),
  );
  const manifest = {
    ...{ name, version, description, license, type, engines },
    ...{ sideEffects: false, exports, bin: { lora: './dist/lora.js' } },
  };
  await writeFile(path.join(folder, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
  await writeFile(
    path.join(folder, 'README.md'),
    readmeOf(await readFile(path.join(ROOT_DIR, 'docs/client.md'), 'utf8')),
  );
  await copyFile(path.join(ROOT_DIR, 'LICENSE'), path.join(folder, 'LICENSE'));
  const bundled = await bundledPackages([...modules, ...declared]);
  await writeFile(path.join(folder, 'THIRD-PARTY-LICENSES'), await licencesOf(bundled));
  const contents = cyclonedx({ type: 'library', name, version }, eachOnce(bundled.map(npmComponent)));
  await writeFile(path.join(folder, 'sbom.cdx.json'), contents);
}

/** The page without links to pages that the package does not have. @param {string} page Markdown */
function readmeOf(page) {
  return page.replaceAll(/\[([^\]]+)\]\((?!https?:)([^)#]*)[^)]*\)/g, (_link, text, file) =>
    file === '' ? text : `${text} (${path.posix.join('docs', file)} of the repository)`,
  );
}

/**
 * Bundles the entries as modules for Node and browsers. Entries share code in further modules, so an entry for browsers imports
 * nothing of Node as long as its sources do not.
 *
 * @param {Record<string, string>} entries file by name
 * @param {string} folder for `NAME.js` and the shared modules
 * @returns {Promise<string[]>} the bundled files
 */
async function bundleModules(entries, folder) {
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
async function bundleTypes(entries, folder) {
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
async function bundledPackages(files) {
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
async function licencesOf(packages) {
  const texts = await Promise.all(packages.map(licenceOf));
  return [...new Set(texts)].join(`\n${'-'.repeat(80)}\n\n`);
}

/** @param {BundledPackage} bundled */
async function licenceOf({ folder, name, version, license }) {
  const file = (await readdir(folder)).find((one) => /^licen[cs]e(\.|$)/i.test(one));
  if (file === undefined) throw new Error(`${name} ${version} has no licence file in ${folder}`);
  return `${name} ${version} (${license})\n\n${(await readFile(path.join(folder, file), 'utf8')).trim()}\n`;
}
