import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cyclonedx, eachOnce, npmComponent } from '../release/cyclonedx.mjs';
import { ROOT_DIR } from '../setup/locations.mjs';
import { bundleModules } from './bundle-modules.mjs';
import { bundleTypes } from './bundle-types.mjs';
import { bundledPackages, licencesOf } from './bundled-packages.mjs';

/** Entry points of the package, and whether programs import them. `lora` is the command. */
const ENTRIES = { index: '.', core: './core', lora: null };

/**
 * Writes the package `@lorasmith/client` without dependencies: what it imports from the workspace and from npm is in its modules
 * and declarations, and listed in `sbom.cdx.json`.
 *
 * @param {string} folder an empty one
 */
export async function writePackage(folder) {
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
  const description_of_package = {
    ...{ name, version, description, license, type, engines },
    ...{ sideEffects: false, exports, bin: { lora: './dist/lora.js' } },
  };
  await writeFile(path.join(folder, 'package.json'), `${JSON.stringify(description_of_package, undefined, 2)}\n`);
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
