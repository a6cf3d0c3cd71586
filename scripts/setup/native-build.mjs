import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';

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
 * Places compiled files into {@link BUILD_DIR}, a folder in it, or that of another package, unless those of the same key are there. Each file is renamed
 * into place, so a process that has the old one open keeps it.
 *
 * @param {object} options
 * @param {string} [options.buildDir] default BUILD_DIR
 * @param {string} [options.folder] relative to buildDir, with `/`
 * @param {Record<string, string>} options.files the source file of each name in `folder`
 * @param {string} options.key changes whenever the files do
 * @param {string} options.keyFile its name; one for each step that shares `folder`
 * @param {boolean} [options.alone] the folder is not shared: other files in it are removed
 * @returns {Promise<boolean>} whether anything had to be placed
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
