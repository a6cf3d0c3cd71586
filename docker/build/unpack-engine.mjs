// node unpack-engine.mjs cpu|gpu|cublas|cuda FOLDER: unpacks the wheels of one kind into
// FOLDER/{lib,bin,nvvm,include,licenses}.
import { cp, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { unpackWheel } from '../../scripts/setup/unpack-wheel.mjs';
import { CPU_TENSORFLOW, CUBLAS, CUDA, GPU_TENSORFLOW, NVRTC } from './engine-wheels.mjs';

const [kind = '', target = ''] = process.argv.slice(2);
const cache = path.join(target, '.unpacked');
const progress = { update: (/** @type {string} */ text) => console.log(text) };

for (const wheel of wheelsOf(kind)) {
  const { folder } = await unpackWheel(wheel, { cache, env: process.env, progress });
  for (const member of wheel.members) await place(folder, member, wheel.project);
  await rm(folder, { recursive: true });
}
await rm(cache, { recursive: true });

/** @param {string} name @returns {import('./engine-wheels.mjs').Wheel[]} */
function wheelsOf(name) {
  const wheels =
    { cpu: [CPU_TENSORFLOW[process.arch]], gpu: [GPU_TENSORFLOW], cublas: [CUBLAS, NVRTC], cuda: CUDA }[name] ?? [];
  if (name !== 'cpu' && process.arch !== 'x64') throw new Error('The GPU engine exists for x64 only.');
  return wheels.map((wheel) => {
    if (!wheel) throw new Error(`There is no pinned TensorFlow for ${process.arch}.`);
    return wheel;
  });
}

/** @param {string} folder @param {string} member @param {string} project */
async function place(folder, member, project) {
  const headers = 'tensorflow/include/';
  const file = path.join(folder, member);
  const name = path.basename(member);
  if (/license|notices/i.test(name)) {
    await mkdir(path.join(target, 'licenses'), { recursive: true });
    await cp(file, path.join(target, 'licenses', `${project}-${name}`));
  } else if (member.startsWith(headers)) {
    await cp(file, path.join(target, 'include', member.slice(headers.length)), { recursive: true });
  } else {
    const subfolder = name.includes('.so') ? 'lib' : name.endsWith('.bc') ? 'nvvm/libdevice' : 'bin';
    await mkdir(path.join(target, subfolder), { recursive: true });
    await cp(file, path.join(target, subfolder, name));
  }
}
