// node prune-packages.mjs SERVICE: removes files that the service does not need to run: unused packages of the workspace, and
// types and source maps in node_modules. TensorFlow.js contains many builds, 270 MB together; only the files that it opens
// when it is loaded remain. The addon must be in place.
import { existsSync, realpathSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { servicePackages } from './service-packages.mjs';

const [service = ''] = process.argv.slice(2);
const STORE = path.resolve('node_modules/.pnpm');
const NOT_FOR_RUNNING = /\.(map|d\.ts|d\.mts|d\.cts|ts|mts|cts|tsbuildinfo|flow)$/;
/** Packages that consist mostly of other builds of the same code. */
const MANY_BUILDS = /\/node_modules\/(@tensorflow\/[^/]+|core-js)\//;
const KEPT_OF_MANY_BUILDS = /(^|\/)(package\.json|LICEN[CS]E[^/]*|NOTICE[^/]*|[^/]+\.node|[^/]+\.so(\.\d+)*)$/;

const ours = new Set(await servicePackages('.', service));
for (const group of ['packages', 'services']) {
  for (const name of await readdir(group)) {
    if (!ours.has(`${group}/${name}`)) await rm(path.join(group, name), { recursive: true });
  }
}
const opened = new Set(engineFiles());
for (const entry of await readdir(STORE, { recursive: true, withFileTypes: true })) {
  const file = path.join(entry.parentPath, entry.name);
  if (!entry.isFile()) continue;
  const isOtherBuild = MANY_BUILDS.test(file) && !opened.has(file) && !KEPT_OF_MANY_BUILDS.test(file);
  if (isOtherBuild || NOT_FOR_RUNNING.test(file)) await rm(file);
}

/** @returns {string[]} the files that `require` of the engine opens; empty if the service has no engine */
function engineFiles() {
  const tensorPackage = path.resolve('packages/tensor/package.json');
  if (!existsSync(path.join(path.dirname(tensorPackage), 'node_modules'))) return [];
  const require = createRequire(tensorPackage);
  require('@tensorflow/tfjs-node-gpu').backend();
  return Object.keys(require.cache).map((file) => realpathSync(file));
}
