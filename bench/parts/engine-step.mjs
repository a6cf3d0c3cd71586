import { LoraAdapter } from '../../packages/lora/dist/index.js';
import { readModelFolder } from '../../packages/model-folder/dist/index.js';
import { loadDecoder, tokenBatchOf } from '../../packages/models/dist/index.js';
import { NextToken } from '../../packages/training/dist/objectives/next-token/next-token.js';

/**
 * A model with LoRA on q and v, and a function that runs one micro-batch of arbitrary tokens forward and backward.
 *
 * @param {string} modelFolder
 * @param {'float32' | 'bfloat16'} precision
 */
export async function engineStep(modelFolder, precision) {
  const folder = await readModelFolder(modelFolder);
  const decoder = await loadDecoder(folder, precision);
  const targets = folder.modules
    .filter(({ name }) => /[qv]_proj$/.test(name))
    .map((layer) => ({ ...layer, rank: 8, scale: 2 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  // The type check sees the sources of the one package and the build of the other.
  const objective = new NextToken(/** @type {any} */ (decoder));
  const vocabulary = decoder.architecture.vocabSize;

  /** @param {{ rows: number, length: number, labelled?: number }} size `labelled`: the share of tokens with a loss */
  const batchOf = ({ rows, length, labelled = 0.5 }) =>
    tokenBatchOf(
      Array.from({ length: rows }, (_, row) => ({
        ids: Int32Array.from({ length }, (_id, i) => (row * 31 + i * 17) % vocabulary),
        trained: Uint8Array.from({ length }, (_id, i) => Number(i >= length * (1 - labelled))),
      })),
    );

  return {
    decoder,
    folder,
    targets,
    batchOf,
    /**
     * @param {ReturnType<typeof batchOf>} batch
     * @param {boolean} [recompute]
     */
    run(batch, recompute = false) {
      objective.lossAndGradients(batch, { adapters: [{ adapter }], recompute });
      adapter.takeGradient().dispose();
    },
  };
}

/**
 * The median of a few timings, after one that does not count.
 *
 * @param {() => void} work
 * @param {number} repeats
 */
export function medianSeconds(work, repeats) {
  const seconds = [];
  for (let repeat = 0; repeat <= repeats; repeat++) {
    const start = performance.now();
    work();
    if (repeat > 0) seconds.push((performance.now() - start) / 1e3);
  }
  return seconds.sort((a, b) => a - b)[Math.floor(seconds.length / 2)] ?? 0;
}
