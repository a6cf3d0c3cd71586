// LoRA on layers small enough to check by hand, computed by the engine that trains.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loraScale } from '../../packages/contracts/dist/index.js';
import { mergeModel } from '../../packages/export/dist/index.js';
import { readModelFolder } from '../../packages/model-folder/dist/index.js';
import { DenseLinear, LoraAdapter, loadClassifier } from '../../packages/models/dist/index.js';
import {
  chooseKernels,
  dispose,
  fill,
  keep,
  multiply,
  scope,
  tensorOf,
  toFloat32Array,
} from '../../packages/tensor/dist/index.js';
import { writeStack } from './stack-folder.mjs';

/** @param {number[][]} rows */
function matrix(rows) {
  return tensorOf(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);
}

/** @param {import('../../packages/tensor/dist/index.js').Tensor} tensor `[rows, columns]` */
export function rowsOf(tensor) {
  const numbers = toFloat32Array(tensor);
  const [rows = 0, columns = 0] = tensor.shape;
  return Array.from({ length: rows }, (_, row) => [...numbers.subarray(row * columns, (row + 1) * columns)]);
}

/** TensorFlow's own ops. */
export const kernels = chooseKernels('raw');

/** `y = x Wᵀ + b`. */
export function linearLayer() {
  return scope(() => {
    const weight = matrix([
      [0.1, 0.2, 0.3],
      [0.4, 0.5, 0.6],
    ]); // [out, in]
    const bias = tensorOf(Float32Array.of(0.7, 0.8), [2]);
    const x = matrix([[1, 2, 3]]);
    const large = { weight: fill([4096, 4096], 0, 'bfloat16'), bias: fill([4096], 0, 'bfloat16') };
    return {
      product: rowsOf(kernels.matMul(x, weight, { transposeB: true }))[0],
      y: rowsOf(new DenseLinear(kernels, weight, bias).forward(x))[0],
      numbers: weight.size + bias.size,
      large: { weights: large.weight.size, withBias: large.weight.size + large.bias.size },
    };
  });
}

const W = [
  [1, 1, 1],
  [2, 2, 2],
  [3, 3, 3],
  [4, 4, 4],
];
const A = [
  [1, 0, 2],
  [0, 3, 0],
];
const B = [
  [1, 0],
  [0, 0],
  [0, 2],
  [1, 1],
];
const X = [1, 2, 3];
const [RANK, ALPHA] = [2, 4];

/** `y = x Wᵀ + (alpha / r) · (x Aᵀ) Bᵀ`, step by step, in one go by the adapter of the engine, and merged into W. */
export async function loraLayer() {
  const scale = loraScale({ rank: RANK, alpha: ALPHA, use_rslora: false });
  const steps = scope(() => {
    const [a, b, x] = [matrix(A), matrix(B), matrix([X])];
    const low = kernels.matMul(x, a, { transposeB: true }); // [1, in] x [r, in]ᵀ -> [1, r]
    const update = kernels.matMul(low, b, { transposeB: true }); // [1, r] x [out, r]ᵀ -> [1, out]
    return {
      ba: rowsOf(kernels.matMul(b, a)),
      ax: rowsOf(low)[0],
      bax: rowsOf(update)[0],
      scaled: rowsOf(multiply(update, tensorOf(Float32Array.of(scale), [1])))[0],
      wx: rowsOf(kernels.matMul(x, matrix(W), { transposeB: true }))[0],
    };
  });
  const adapter = {
    dropout: 0,
    baseModelNameOrPath: null,
    modules: new Map([
      [
        '0',
        {
          a: Float32Array.from(A.flat()),
          b: Float32Array.from(B.flat()),
          ...{ rank: RANK, scale, inFeatures: 3, outFeatures: 4 },
        },
      ],
    ]),
  };
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-layer-'));
  try {
    const [base, merged] = [path.join(folder, 'base'), path.join(folder, 'merged')];
    await writeStack(base, [3, 4], { '0.weight': Float32Array.from(W.flat()) });
    await mkdir(merged);
    await mergeModel({ model: await readModelFolder(base), adapter, outputFolder: merged });
    return {
      scale,
      ...steps,
      y: await outputOf(base, adapter),
      merged: await weightOf(merged),
      mergedY: await outputOf(merged, null),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {string} folder @returns {Promise<number[][]>} the weight of the only layer, `[out, in]` */
async function weightOf(folder) {
  const model = await loadClassifier(await readModelFolder(folder), 'float32', kernels);
  const linear = model.groups[0]?.linear;
  const rows = scope(() => (linear ? rowsOf(linear.weightRows(0, linear.outFeatures)) : []));
  model.dispose();
  return rows;
}

/**
 * @param {string} folder of a model with one layer
 * @param {import('../../packages/peft-files/dist/index.js').PeftAdapter | null} initial an adapter for it
 * @returns {Promise<number[] | undefined>} y of {@link X}
 */
async function outputOf(folder, initial) {
  const model = await loadClassifier(await readModelFolder(folder), 'float32', kernels);
  const adapter = initial && adapterFor(model.groups, initial);
  try {
    const x = { features: Float32Array.from(X), width: X.length };
    return scope(() => rowsOf(model.logits(x, adapter ? [{ adapter }] : []))[0]);
  } finally {
    adapter?.dispose();
    model.dispose();
  }
}

/**
 * The matrices of `initial` as an adapter of a loaded model.
 *
 * @param {readonly import('../../packages/models/dist/index.js').LinearGroup[]} groups
 * @param {import('../../packages/peft-files/dist/index.js').PeftAdapter} initial
 */
export function adapterFor(groups, initial) {
  const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
  return new LoraAdapter(groups, { targets, dropout: 0, seed: 0, initial });
}

/** The numbers that LoRA trains in a layer of 4096 × 4096. */
export function savings() {
  const weight = keep(scope(() => fill([4096, 4096], 0, 'bfloat16')));
  const linear = new DenseLinear(kernels, weight, null);
  const group = { modules: [{ name: 'layer', outFeatures: 4096 }], linear };
  const adapter = new LoraAdapter([group], { targets: [{ name: 'layer', rank: 8, scale: 2 }], dropout: 0, seed: 0 });
  try {
    const [trained, frozen] = [adapter.parameterCount, weight.size];
    return { trained, frozen, fewerPercent: 100 * (1 - trained / frozen) };
  } finally {
    adapter.dispose();
    dispose(weight);
  }
}
