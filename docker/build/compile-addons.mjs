// node compile-addons.mjs FOLDER: compiles TensorFlow's Node addon and the fused ops as set-up does, for the library of
// LIBTENSORFLOW_DIR. FOLDER/tfjs-node-gpu is copied over that package; the engine loads FOLDER/fused-ops, and on a GPU also
// FOLDER/cuda-engine.
import { cp, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { installCudaEngine } from '../../scripts/setup/cuda-engine.mjs';
import { installEngineAddon } from '../../scripts/setup/engine-addon.mjs';
import { installFusedOps } from '../../scripts/setup/fused-ops.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { BUILD_DIR } from '../../scripts/setup/native-build.mjs';
import { findTensorflowLibrary } from '../../scripts/setup/tensorflow-library.mjs';

const CUDA_ENGINE = 'cuda.node';
const target = process.argv[2] ?? '';
const { env } = process;
const options = { cache: cacheDir(env), env, progress: { update: (/** @type {string} */ text) => console.log(text) } };
const { library } = await findTensorflowLibrary(options);
await installEngineAddon(library, options);
await installFusedOps(library, { ...options, instructionSets: 'all' });
await installCudaEngine(library, { ...options, emulated: false });

const enginePackage = path.join(ROOT_DIR, 'packages/tensor/node_modules/@tensorflow/tfjs-node-gpu');
for (const folder of ['lib', 'deps/lib']) {
  await cp(path.join(enginePackage, folder), path.join(target, 'tfjs-node-gpu', folder), {
    recursive: true,
    verbatimSymlinks: true,
  });
}
await copyBuilt('fused-ops', (name) => name !== CUDA_ENGINE);
await copyBuilt('cuda-engine', (name) => name === CUDA_ENGINE);

/** @param {string} folder of the target @param {(name: string) => boolean} isWanted */
async function copyBuilt(folder, isWanted) {
  await mkdir(path.join(target, folder), { recursive: true });
  for (const name of await readdir(BUILD_DIR)) {
    if (name.endsWith('.node') && isWanted(name)) await cp(path.join(BUILD_DIR, name), path.join(target, folder, name));
  }
}
