/**
 * A card as tables of arithmetic have it: dense bfloat16 products with float32 sums, bandwidth, and memory as the driver reports it;
 * multiprocessors, their clock, and what one of them multiplies and adds in a cycle with `mma.sync`. `products`: the share of the published
 * rate that matrix products reach. On an RTX 4090 torchtune's published speed, with every layer computed again, takes 0.82 of it for
 * products alone.
 */
export const H100 = {
  ...{ name: 'H100 SXM', teraflops: 989, terabytes: 3.35, memory: 81_559 * 2 ** 20 },
  ...{ products: 0.6, multiprocessors: 132, gigahertz: 1.755, multiplyAdds: 2048 * 0.62 },
};
export const RTX_4090 = {
  ...{ name: 'RTX 4090', teraflops: 165, terabytes: 1.01, memory: 24_564 * 2 ** 20 },
  ...{ products: 0.85, multiprocessors: 128, gigahertz: 2.52, multiplyAdds: 256 },
};
export const L4 = {
  ...{ name: 'L4', teraflops: 121, terabytes: 0.3, memory: 23_034 * 2 ** 20 },
  ...{ products: 0.6, multiprocessors: 58, gigahertz: 2.04, multiplyAdds: 512 },
};

/** Shares of the published rates. */
export const REACHED = { attention: 0.25, passes: 0.7 };

export const BYTES = { bfloat16: 2, float32: 4 };
/** Bytes of a number in 4 bits, with a scale of 8 bits for each 64 numbers and one of float32 for each 256 scales. */
export const NF4_BYTES = 1 / 2 + 1 / 64 + BYTES.float32 / (64 * 256);

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
