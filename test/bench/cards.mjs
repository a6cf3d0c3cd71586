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
