import { observeOps } from '../../packages/tensor/src/execute.js';
import type { Tensor } from '../../packages/tensor/src/tensor.js';

/** Memory that several tensors may name. */
interface Block {
  bytes: number;
  tensors: Tensor[];
}

/** The most bytes that outputs of ops hold at once during `work`. What a reshape gives is the memory of its input. */
export function peakBytes(work: () => void): number {
  const blockOf = new Map<number, Block>();
  let live: Block[] = [];
  let peak = 0;
  observeOps(({ name, inputs, outputs }) => {
    for (const output of outputs) {
      const shared = name === 'Reshape' ? blockOf.get(inputs[0]!.id) : undefined;
      const block = shared ?? { bytes: output.sizeBytes, tensors: [] };
      block.tensors.push(output);
      blockOf.set(output.id, block);
      if (shared === undefined) live.push(block);
    }
    live = live.filter(({ tensors }) => tensors.some(({ isLive }) => isLive));
    const bytes = live.reduce((sum, block) => sum + block.bytes, 0);
    peak = Math.max(peak, bytes);
  });
  try {
    work();
  } finally {
    observeOps(null);
  }
  return peak;
}
