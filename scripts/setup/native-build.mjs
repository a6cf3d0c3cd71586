import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

/** The C++ and CUDA C++ of packages/tensor. */
export const NATIVE_DIR = path.join(ROOT_DIR, 'packages/tensor/native');
/** The folder of compiled files. Several steps of set-up share it. */
export const BUILD_DIR = path.join(NATIVE_DIR, 'build');

/**
 * Sources by kind. An op has its folder in `ops`, with all of its versions; what several ops share is in `cpu` and `cuda`.
 *
 * @type {Record<'cpu' | 'host' | 'kernels' | 'kernelTests', { shared: string, ofOps: RegExp }>}
 */
const SOURCES = {
  cpu: { shared: 'cpu', ofOps: /(?<!_cuda|_test)\.cc$/ },
  host: { shared: 'cuda/host', ofOps: /_cuda\.cc$/ },
  kernels: { shared: 'cuda/kernels', ofOps: /\.cu$/ },
  kernelTests: { shared: 'cuda/test', ofOps: /_test\.cc$/ },
};

/** @param {keyof typeof SOURCES} kind @returns {Promise<string[]>} its files, relative to {@link NATIVE_DIR} */
export async function nativeSources(kind) {
  const { shared, ofOps } = SOURCES[kind];
  const ofAll = (await readdir(path.join(NATIVE_DIR, shared))).filter((name) => /\.(cc|cu)$/.test(name));
  const ofEach = (await readdir(path.join(NATIVE_DIR, 'ops'), { recursive: true })).filter((name) => ofOps.test(name));
  return [...ofEach.map((name) => `ops/${name}`), ...ofAll.map((name) => `${shared}/${name}`)].sort();
}

/**
 * Node's C API, as a folder for `-I`. Paths in flags are relative to the `native` folder of a package, so that clones share
 * the cache.
 */
export const NODE_HEADERS = path.relative(NATIVE_DIR, path.join(ROOT_DIR, 'node_modules/node-api-headers/include'));

/**
 * A library, addon or program and how it is made.
 *
 * @typedef {object} Target
 * @property {string} file where it is placed, relative to native/build
 * @property {string[]} sources relative to the folder of the sources
 * @property {string[]} flags of the compiler
 * @property {Record<string, string[]>} [flagsOf] of the sources that have others
 * @property {string[]} libraries flags of the linker
 * @property {boolean} [isProgram]
 */

/**
 * Compiles targets in the cache. A source is compiled once for its flags, its text and that of the headers it includes, so a
 * changed file is compiled alone.
 *
 * @param {Target[]} targets
 * @param {{ sourceDir?: string, identity: string, cache: string, env: NodeJS.ProcessEnv,
 *   progress: import('./run-steps.mjs').Progress }} options
 *   `sourceDir`: the `native` folder of a package, default {@link NATIVE_DIR}; `identity`: of the TensorFlow library, whose
 *   headers all may include
 * @returns {Promise<{ files: Record<string, string>, objects: Record<string, string>, keys: Record<string, string>,
 *   compiled: number }>}
 *   `files`: each target's file in the cache; `objects`: that of each source of the last target; `keys`: each target's, which changes whenever
 *   it does; `compiled`: how many sources were
 * @throws {SetupError} when one does not compile
 */
export async function compileNative(targets, { sourceDir = NATIVE_DIR, identity, cache, env, progress }) {
  const compiler = env.CXX || 'g++';
  /** @type {Map<string, () => Promise<void>>} by folder: targets may share an object */
  const missing = new Map();
  const planned = [];
  for (const target of targets) {
    const objects = [];
    for (const source of target.sources) {
      const flags = target.flagsOf?.[source] ?? target.flags;
      const keyOf = async () => {
        const texts = await withIncludes(source, { sourceDir, flags });
        return shortHash(JSON.stringify([compiler, identity, process.arch, flags, texts]));
      };
      const key = await keyOf();
      const folder = path.join(cache, 'native-objects', `${path.basename(source)}-${key}`);
      objects.push({ source, key, file: path.join(folder, 'object.o') });
      if (existsSync(folder)) continue;
      missing.set(folder, async () => {
        const args = [...flags, '-x', 'c++', '-c', source, '-o'];
        await publishFolder(folder, async (partial) => {
          await runCommand(compiler, [...args, path.join(partial, 'object.o')], {
            cwd: sourceDir,
            env,
            remedy: 'see the compiler errors above. A C++17 compiler is required: g++ 11 or later.',
          });
          if ((await keyOf()) !== key) {
            throw new SetupError(`${source} changed while it was compiled`, 'run the same command again.');
          }
        });
      });
    }
    planned.push({ target, objects });
  }
  const compiled = missing.size;
  await runAll([...missing.values()], (done) => progress.update(`compiling C++, ${done} of ${compiled} files`));

  /** @type {Record<string, string>} */
  const files = {};
  /** @type {Record<string, string>} */
  const keys = {};
  for (const { target, objects } of planned) {
    const key = shortHash(JSON.stringify([compiler, target.libraries, objects.map((object) => object.key)]));
    const name = path.basename(target.file);
    const folder = path.join(cache, 'addons', `${name}-${key}`);
    await publishFolder(folder, async (partial) => {
      const inputs = [...objects.map(({ file }) => file), ...target.libraries];
      const kind = target.isProgram ? [] : ['-shared'];
      await runCommand(compiler, [...kind, '-pthread', ...inputs, '-o', path.join(partial, name)], {
        env,
        remedy: 'see the linker errors above.',
      });
    });
    files[target.file] = path.join(folder, name);
    keys[target.file] = key;
  }
  const objects = Object.fromEntries(planned.at(-1)?.objects.map(({ source, file }) => [source, file]) ?? []);
  return { files, objects, keys, compiled };
}

/**
 * Runs them on every core. All that were started have ended before a failure is reported, so that none writes into the cache
 * after it.
 *
 * @param {(() => Promise<void>)[]} tasks
 * @param {(done: number) => void} report
 */
async function runAll(tasks, report) {
  const waiting = [...tasks];
  let done = 0;
  const worker = async () => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) {
      report(done);
      await task().catch((error) => {
        waiting.length = 0;
        throw error;
      });
      done += 1;
    }
  };
  const results = await Promise.allSettled(Array.from({ length: availableParallelism() }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/**
 * Reads a source with all that decides what it is compiled to.
 *
 * @param {string} source relative to `sourceDir`
 * @param {{ sourceDir?: string, flags: string[], without?: string }} options `sourceDir`: default {@link NATIVE_DIR}; `-I.` among the flags:
 *   names are also looked for from `sourceDir`; `without`: a folder whose headers do not count
 * @param {Map<string, string>} [found] the texts read before, by name
 * @returns {Promise<[string, string][]>} name and text of the source and of our headers that it includes
 */
export async function withIncludes(source, options, found = new Map()) {
  const { sourceDir = NATIVE_DIR, flags, without } = options;
  const text = await readFile(path.join(sourceDir, source), 'utf8');
  found.set(source, text);
  const folders = [path.dirname(source), ...(flags.includes('-I.') ? ['.'] : [])];
  for (const [, name = ''] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
    const names = folders.map((folder) => path.join(folder, name));
    const included = names.find((one) => existsSync(path.join(sourceDir, one)));
    if (included === undefined || found.has(included)) continue;
    if (without === undefined || !included.startsWith(`${without}/`)) await withIncludes(included, options, found);
  }
  return [...found];
}

/**
 * Places compiled files into {@link BUILD_DIR}, a folder in it, or that of another package, unless those of the same key are there.
 * Each file is renamed into place, so a process that has the old one open keeps it.
 *
 * @param {object} options
 * @param {string} [options.buildDir] default BUILD_DIR
 * @param {string} [options.folder] relative to buildDir, with `/`
 * @param {Record<string, string>} options.files the source file of each name in `folder`
 * @param {string} options.key changes whenever the files do
 * @param {string} options.keyFile its name; one for each step that shares `folder`
 * @param {boolean} [options.alone] the folder is not shared: other files in it are removed
 * @returns {Promise<boolean>} true if anything had to be placed
 */
export async function placeFiles({ buildDir = BUILD_DIR, folder = '.', files, key, keyFile, alone = false }) {
  const target = path.join(buildDir, folder);
  const keyPath = path.join(target, keyFile);
  if (existsSync(keyPath) && readFileSync(keyPath, 'utf8') === key) return false;
  await mkdir(target, { recursive: true });
  await rm(keyPath, { force: true });
  for (const [name, source] of Object.entries(files)) {
    const file = path.join(target, name);
    const fresh = path.join(path.dirname(file), `.${path.basename(file)}-${process.pid}`);
    await mkdir(path.dirname(file), { recursive: true });
    await copyFile(source, fresh);
    await rename(fresh, file);
  }
  if (alone) {
    for (const name of await readdir(target)) if (!(name in files)) await rm(path.join(target, name), { force: true });
  }
  // Last, so that a run killed before this line places everything again.
  await writeFile(keyPath, key);
  return true;
}

/** @param {string} text */
function shortHash(text) {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
