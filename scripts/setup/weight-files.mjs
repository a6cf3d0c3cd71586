import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheDir, ROOT_DIR } from './locations.mjs';
import { compileNative, NODE_HEADERS, placeFiles } from './native-build.mjs';
import { describeFailure } from './run-steps.mjs';

const SOURCE_DIR = path.join(ROOT_DIR, 'packages/weight-files/native');
/** The path from which packages/weight-files loads its addon. */
const WEIGHT_FILES_BUILD_DIR = path.join(SOURCE_DIR, 'build');

/** Products and sums are fused only where the source says so. */
const FLAGS = [
  ...['-std=c++17', '-O3', '-Wall', '-fPIC', '-pthread', '-fvisibility=hidden', '-ffp-contract=off'],
  `-I${NODE_HEADERS}`,
];

/** The flags of the sources that are compiled for some processors only; the addon chooses among them when it runs. */
const FLAGS_OF = {
  'merge_avx512.cc': [...FLAGS, '-march=x86-64-v4', '-mprefer-vector-width=512'],
  'merge_avx2.cc': [...FLAGS, '-march=x86-64-v3'],
};

/**
 * Compiles the addon of packages/weight-files into its native/build.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./run-steps.mjs').SetupError} when it does not compile
 */
export async function installWeightFiles({ cache, env, progress }) {
  const names = (await readdir(SOURCE_DIR)).filter((name) => name.endsWith('.cc')).sort();
  const sources = names.filter((name) => process.arch === 'x64' || !(name in FLAGS_OF));
  const target = { file: 'weight-files.node', sources, flags: FLAGS, flagsOf: FLAGS_OF, libraries: [] };
  const options = { sourceDir: SOURCE_DIR, identity: 'none', cache, env, progress };
  const { files, keys, compiled } = await compileNative([target], options);
  const placed = await placeFiles({
    buildDir: WEIGHT_FILES_BUILD_DIR,
    files,
    key: JSON.stringify(keys),
    keyFile: '.weight-files-key',
  });
  return compiled > 0 ? 'compiled' : placed ? 'taken from the cache' : 'in place';
}

// node scripts/setup/weight-files.mjs: compiles the addon.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { env } = process;
    const progress = { update: (/** @type {string} */ text) => console.error(text) };
    console.log(await installWeightFiles({ cache: cacheDir(env), env, progress }));
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
