import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR, toolEnvironment } from './locations.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

/** The Node-API version that the addon asks for; the addon then runs on every later Node, so its cache key has no Node version. */
const NAPI_VERSION = 8;
const ADDON_NAME = 'tfjs_binding.node';
const KEY_FILE = '.lorasmith-key';

/**
 * Stands in for the `common.gypi` of Node's header package. The addon uses nothing but Node-API, so its headers come from
 * the pinned npm package `node-api-headers`: node-gyp then needs neither a download nor the headers of the running Node.
 */
const COMMON_GYPI = `{
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': { 'Release': { 'cflags': ['-O2'], 'defines': ['NDEBUG'] } },
    'cflags': ['-pthread', '-Wall'],
    'cflags_cc': ['-std=gnu++17'],
    'ldflags': ['-pthread'],
  },
}
`;

/**
 * Compiles tfjs-node-gpu's addon against the given library, once per library, sources and architecture, and puts it where
 * the package looks for it.
 *
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {SetupError} when it does not compile or does not load
 */
export async function installEngineAddon(library, { cache, env, progress }) {
  const packageDir = path.join(ROOT_DIR, 'packages/tensor/node_modules/@tensorflow/tfjs-node-gpu');
  const key = await addonKey(packageDir, library);
  const compiledDir = path.join(cache, 'addons', `tfjs_binding-${key}`);
  const compiled = await publishFolder(compiledDir, (partial) =>
    compile(partial, { packageDir, library, env, progress }),
  );
  const placed = await place(path.join(compiledDir, ADDON_NAME), {
    packageDir,
    library,
    key: `${key} ${library.cApiFile}`,
  });
  if (compiled || placed) await checkThatItLoads(packageDir, env);
  return compiled ? 'compiled' : placed ? 'taken from the cache' : 'in place';
}

/** @param {string} packageDir @param {import('./tensorflow-library.mjs').TensorflowLibrary} library */
async function addonKey(packageDir, library) {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([library.identity, process.arch, NAPI_VERSION, COMMON_GYPI]));
  const bindingDir = path.join(packageDir, 'binding');
  const sources = (await readdir(bindingDir)).sort().map((name) => path.join(bindingDir, name));
  for (const file of [...sources, path.join(packageDir, 'binding.gyp'), nodeApiPackageFile()])
    hash.update(await readFile(file));
  return hash.digest('hex').slice(0, 16);
}

/**
 * @param {string} target
 * @param {{ packageDir: string, library: import('./tensorflow-library.mjs').TensorflowLibrary, env: NodeJS.ProcessEnv,
 *   progress: import('./run-steps.mjs').Progress }} options
 */
async function compile(target, { packageDir, library, env, progress }) {
  // A copy: the files of the package are hard links into pnpm's store.
  const stage = path.join(target, 'stage');
  await cp(path.join(packageDir, 'binding'), path.join(stage, 'binding'), { recursive: true });
  await copyFile(path.join(packageDir, 'binding.gyp'), path.join(stage, 'binding.gyp'));
  await linkLibrary(path.join(stage, 'deps'), library);
  const nodeDir = path.join(stage, 'node');
  const headersDir = path.join(nodeDir, 'include/node');
  await cp(path.join(path.dirname(nodeApiPackageFile()), 'include'), headersDir, { recursive: true });
  await writeFile(path.join(headersDir, 'common.gypi'), COMMON_GYPI);
  await writeFile(path.join(headersDir, 'config.gypi'), JSON.stringify({ target_defaults: {}, variables: {} }));

  progress.update("compiling TensorFlow's addon");
  const outputDir = path.join(stage, 'lib');
  await runCommand(
    process.execPath,
    [
      path.join(ROOT_DIR, 'node_modules/node-gyp/bin/node-gyp.js'),
      'rebuild',
      '--loglevel=warn',
      `--nodedir=${nodeDir}`,
      `--napi_build_version=${NAPI_VERSION}`,
      '--module_name=tfjs_binding',
      `--module_path=${outputDir}`,
    ],
    {
      cwd: stage,
      env: toolEnvironment(env),
      onTick: (seconds) => progress.update(`compiling TensorFlow's addon, ${seconds} s`),
      remedy:
        'see the compiler errors above. A C++17 compiler (g++ 9 or later) and Python 3.8 or later are required; with LIBTENSORFLOW_DIR set, its headers must be of TensorFlow 2.9 or later.',
    },
  );
  await rename(path.join(outputDir, ADDON_NAME), path.join(target, ADDON_NAME));
  await rm(stage, { recursive: true, force: true });
}

/**
 * The layout that binding.gyp links against and whose `deps/lib` the addon's run path, `$ORIGIN/../../deps/lib`, names.
 *
 * @param {string} depsDir
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 */
async function linkLibrary(depsDir, { includeDir, cApiFile, frameworkFile }) {
  const libDir = path.join(depsDir, 'lib');
  await mkdir(libDir, { recursive: true });
  await symlink(includeDir, path.join(depsDir, 'include'));
  await symlink(cApiFile, path.join(libDir, 'libtensorflow.so'));
  await symlink(frameworkFile, path.join(libDir, 'libtensorflow_framework.so'));
  // The names that the libraries carry inside (SONAME), which the dynamic linker looks for.
  for (const name of ['libtensorflow.so.2', 'libtensorflow_cc.so.2']) await symlink(cApiFile, path.join(libDir, name));
  await symlink(frameworkFile, path.join(libDir, 'libtensorflow_framework.so.2'));
}

/**
 * Adds `lib/napi-v8/tfjs_binding.node` and `deps/` to the installed package. Only new files: those of the package itself
 * are shared with every other project on this machine through pnpm's store.
 *
 * @param {string} addonFile
 * @param {{ packageDir: string, library: import('./tensorflow-library.mjs').TensorflowLibrary, key: string }} options
 * @returns {Promise<boolean>} whether anything had to be placed
 */
async function place(addonFile, { packageDir, library, key }) {
  const addonDir = path.join(packageDir, 'lib', `napi-v${NAPI_VERSION}`);
  const keyFile = path.join(addonDir, KEY_FILE);
  const librariesReachable = existsSync(path.join(packageDir, 'deps/lib/libtensorflow.so'));
  if (librariesReachable && existsSync(keyFile) && readFileSync(keyFile, 'utf8') === key) return false;

  await rm(keyFile, { force: true });
  const newDeps = path.join(packageDir, `.deps-${process.pid}`);
  await rm(newDeps, { recursive: true, force: true });
  await linkLibrary(newDeps, library);
  await rm(path.join(packageDir, 'deps'), { recursive: true, force: true });
  await rename(newDeps, path.join(packageDir, 'deps'));
  await mkdir(addonDir, { recursive: true });
  const newAddon = path.join(addonDir, `.${ADDON_NAME}-${process.pid}`);
  await copyFile(addonFile, newAddon);
  await chmod(newAddon, 0o755);
  await rename(newAddon, path.join(addonDir, ADDON_NAME));
  // Last, so that a run killed before this line places everything again.
  await writeFile(keyFile, key);
  return true;
}

/** @param {string} packageDir @param {NodeJS.ProcessEnv} env */
async function checkThatItLoads(packageDir, env) {
  const addonFile = path.join(packageDir, 'lib', `napi-v${NAPI_VERSION}`, ADDON_NAME);
  await runCommand(process.execPath, ['-e', 'require(process.argv[1])', addonFile], { env }).catch((cause) => {
    throw new SetupError(
      'the compiled addon does not load',
      "see the error of the dynamic linker above. TensorFlow's wheel needs glibc 2.17 or later and a processor with AVX; with LIBTENSORFLOW_DIR set, everything that its libraries need must be found, too.",
      { cause, output: cause instanceof SetupError ? cause.output : '' },
    );
  });
}

function nodeApiPackageFile() {
  return path.join(ROOT_DIR, 'node_modules/node-api-headers/package.json');
}
