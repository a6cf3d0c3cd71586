import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { SeededRandom } from '../../packages/seeded-random/dist/index.js';
import { writeSafetensors } from '../../packages/weight-files/dist/index.js';

/**
 * Writes a stack of linear layers with ReLU between them as a base model, as `nn.Sequential` saves it.
 *
 * @param {string} folder a new one
 * @param {number[]} widths for instance 128, 256, 10
 * @param {Record<string, Float32Array>} tensors by name: `0.weight` `[out, in]`, perhaps `0.bias` `[out]`, `2.weight`, …
 */
export async function writeStack(folder, widths, tensors) {
  await mkdir(folder, { recursive: true });
  const config = { model_type: 'classifier', layers: widths, activation: 'relu' };
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  const stored = Object.entries(tensors).map(([name, values]) => {
    const [outFeatures = 0, inFeatures = 0] = [widths[layerOf(name) + 1], widths[layerOf(name)]];
    const shape = name.endsWith('.bias') ? [outFeatures] : [outFeatures, inFeatures];
    return { name, dtype: /** @type {const} */ ('F32'), shape, data: new Uint8Array(values.buffer) };
  });
  await writeSafetensors(path.join(folder, 'model.safetensors'), stored);
}

/** @param {string} name such as `2.weight`: ReLU has every second number */
const layerOf = (name) => Number.parseInt(name, 10) / 2;

/**
 * Random weights and biases, uniform in ±1/√in as in PyTorch's `nn.Linear`.
 *
 * @param {number[]} widths @param {number} seed
 * @returns {Record<string, Float32Array>}
 */
export function randomWeights(widths, seed) {
  const tensors = widths.slice(1).flatMap((outFeatures, layer) => {
    const inFeatures = widths[layer] ?? 0;
    return Object.entries({ weight: outFeatures * inFeatures, bias: outFeatures }).map(([kind, size]) => {
      const name = `${2 * layer}.${kind}`;
      const values = new Float32Array(size);
      new SeededRandom(seed, name).fillUniform(values, 1 / Math.sqrt(inFeatures));
      return /** @type {const} */ ([name, values]);
    });
  });
  return Object.fromEntries(tensors);
}
