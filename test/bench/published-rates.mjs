/**
 * A rate of LoRA training that another project publishes, measured on another machine with a card of the same kind.
 *
 * @typedef {object} PublishedRate
 * @property {string} by
 * @property {RegExp} card its name
 * @property {string} model one of ours, of the same size
 * @property {number} rows
 * @property {number} length
 * @property {number} tokensPerSecond
 * @property {string} how
 */

/**
 * NVIDIA NeMo AutoModel: docs/performance-summary.mdx at 36044ad3, with
 * examples/llm_benchmark/llama3_1/llama3_1_8b_peft_benchmark.yaml: dropout, and nothing is computed again. torchtune: README.md at 0031bfb0,
 * compiled; its configurations compute every layer again.
 *
 * @satisfies {Record<string, PublishedRate>}
 */
export const PUBLISHED_RATES = {
  automodel: {
    by: 'NVIDIA NeMo AutoModel',
    card: /\bH100\b/,
    model: '8B',
    ...{ rows: 2, length: 4096, tokensPerSecond: 12_473 },
    how: 'Llama 3.1 8B, LoRA r = 16, nothing computed again',
  },
  torchtune: {
    by: 'torchtune',
    card: /\bRTX 4090\b/,
    model: '8B',
    ...{ rows: 2, length: 2048, tokensPerSecond: 3083 },
    how: 'Llama 3.1 8B, LoRA, packed rows, compiled, layers computed again',
  },
  torchtuneNf4: {
    by: 'torchtune',
    card: /\bRTX 4090\b/,
    model: '8B in NF4',
    ...{ rows: 2, length: 2048, tokensPerSecond: 2413 },
    how: 'Llama 3.1 8B, QLoRA, packed rows, compiled, layers computed again',
  },
};

/**
 * Lines that set measured rates next to published ones of the same card, model and size.
 *
 * @param {string} card its name
 * @param {string} model
 * @param {readonly { rows: number, length: number, tokens_per_second?: number }[]} sizes
 * @returns {string[]}
 */
export function publishedLines(card, model, sizes) {
  const same = Object.values(PUBLISHED_RATES).filter((rate) => rate.card.test(card) && rate.model === model);
  return same.flatMap((rate) => {
    const size = sizes.find(({ rows, length }) => rows === rate.rows && length === rate.length);
    const ours = size?.tokens_per_second;
    if (ours === undefined) return [];
    return [
      `Published, another machine: ${rate.by}, ${rate.rows} × ${rate.length} (${rate.how}): ${rate.tokensPerSecond} tokens/s; here ${ours.toFixed(0)}, ${(ours / rate.tokensPerSecond).toFixed(2)} ×.`,
    ];
  });
}
