import { stepWork } from '../../packages/planning/dist/index.js';
import { configureKernels, dispose, fill } from '../../packages/tensor/dist/index.js';
import { measureMachine } from '../../packages/training/dist/index.js';
import { engineStep, medianSeconds } from './engine-step.mjs';

/**
 * What a worker measures of its machine, and the share of the matrix products' own rate that a training step reaches.
 *
 * @param {{ model: string, precision: 'float32' | 'bfloat16', rows: number, length: number, repeats: number }} options
 */
export async function measure({ model, precision, rows, length, repeats }) {
  const profile = await measureMachine();
  const { decoder, folder, targets, batchOf, run } = await engineStep(model, precision);
  const tokens = rows * length;
  const batch = batchOf({ rows, length });
  const seconds = medianSeconds(() => run(batch), repeats);
  const { products, attention } = stepWork(
    { architecture: decoder.architecture, modules: folder.modules, targets, recompute: false },
    {
      tokensPerStep: tokens,
      labelsPerStep: batch.labels.length,
      squaresPerStep: rows * length ** 2,
      microBatchesPerStep: 1,
    },
  );
  const own = ownShapesRate(decoder, precision, tokens, repeats);
  configureKernels('raw');
  const tensorflow = ownShapesRate(decoder, precision, tokens, repeats);
  configureKernels('fused');
  const modelRate = (products + attention) / seconds;
  return {
    profile,
    tokens,
    tokens_per_second: tokens / seconds,
    model_gflops_per_second: modelRate,
    matmul_gflops_per_second: { own, tensorflow },
    share: { own: modelRate / own, tensorflow: modelRate / tensorflow },
  };
}

/**
 * Rate, in 10⁹ operations a second, of the products that the model's own layers make, forward and backward, nothing else done between them.
 *
 * @param {Awaited<ReturnType<typeof engineStep>>['decoder']} decoder
 * @param {'float32' | 'bfloat16'} precision
 * @param {number} tokens
 * @param {number} repeats
 */
function ownShapesRate(decoder, precision, tokens, repeats) {
  const groups = decoder.groups.slice(0, 4);
  let operations = 0;
  let seconds = 0;
  for (const { linear } of groups) {
    const { inFeatures, outFeatures } = linear;
    const x = fill([tokens, inFeatures], 0.01, precision);
    const gradient = fill([tokens, outFeatures], 0.01, precision);
    seconds += medianSeconds(() => {
      // The type check sees the sources of the one package and the build of the other.
      linear.forward(/** @type {any} */ (x)).dispose();
      linear.backwardInput(/** @type {any} */ (gradient)).dispose();
    }, repeats + 4);
    operations += 2 * 2 * tokens * outFeatures * inFeatures;
    dispose([x, gradient]);
  }
  return operations / seconds / 1e9;
}
