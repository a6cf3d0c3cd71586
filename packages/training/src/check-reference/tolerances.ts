import { type DecoderArchitecture, mixerRoundings, mlpRoundings } from '@lorasmith/model-folder';
import type { FloatDType } from '@lorasmith/tensor';

/** The largest errors allowed against a float32 reference. */
export interface Tolerances {
  /** Absolute for float32; for bfloat16 relative to the largest logit. */
  logits: number;
  /** Absolute. */
  loss: number;
  /** Relative to the largest entry of each gradient. */
  gradient: number;
  /** Tolerance of the losses over the steps, absolute. */
  stepLosses: number;
  /** Tolerance of the gradient norms over the steps, relative. */
  stepNorms: number;
  /** Absolute for float32; for bfloat16 relative in norm to how far training moved it. */
  trained: number;
}

const FLOAT32: Tolerances = {
  logits: 1e-4,
  loss: 1e-4,
  gradient: 1e-4,
  stepLosses: 1e-4,
  stepNorms: 1e-4,
  trained: 1e-5,
};

/** bfloat16 has 8 significant bits: rounding to nearest changes a number by at most this share. */
const BFLOAT16_ROUNDING = 2 ** -9;
/**
 * Tensors that are rounded to bfloat16 on the way through a layer: two norms, qkv, query and key rotated, attention weights
 * and output, output projection, gate and up, activated, down; and the weights they meet. Where a family has them: query
 * and key normed, values normed, and the norms of what is added to the stream; of the layer's input itself, its gate, their
 * product, what that adds to the stream, and the norm of it; and what the kinds of mixers and MLPs round besides.
 */
export function roundingsPerLayer(architecture: DecoderArchitecture): number {
  const { names, attention, layerInputs } = architecture;
  const branchNorms = [names.attentionBranchNorm, names.mlpBranchNorm].filter((name) => name !== null).length;
  const ofHeads = (names.queryNorm === null ? 0 : 2) + (attention.valueNorm === null ? 0 : 1);
  const ofGate = attention.outputGate === null ? 0 : 1;
  return (
    16 +
    ofHeads +
    branchNorms +
    mixerRoundings(architecture) +
    mlpRoundings(architecture) +
    ofGate +
    (layerInputs === null ? 0 : 5)
  );
}

/**
 * The tolerances in a precision. In float32 they are the reference's own. In bfloat16 they follow from the rounding: errors
 * of n roundings, each at most u = 2⁻⁹ of its number and independent, add up like a random walk to about u √n; four times
 * that allows for the largest of many entries. A result has passed n roundings (16 or a few more) in each layer going
 * forward, a gradient twice as many. The loss is a mean over n labels whose errors are independent: the bound of a logit
 * over √n. AdamW's first steps move each number by the learning rate in the direction of its gradient's sign, so small
 * gradients whose sign flips count fully: 2 × the gradient's tolerance in norm per √step for the matrices. All this holds
 * for smooth activations: the slope of relu jumps where rounding changes a sign, and PyTorch's own bfloat16 gradients miss
 * these bounds too.
 */
export function tolerancesOf(
  precision: FloatDType,
  architecture: DecoderArchitecture,
  reference: { largestLogit: number; labels: number },
): Tolerances {
  if (precision === 'float32') return FLOAT32;
  const forward = 4 * BFLOAT16_ROUNDING * Math.sqrt(roundingsPerLayer(architecture) * architecture.layerCount);
  const backward = forward * Math.SQRT2;
  const loss = (forward * reference.largestLogit) / Math.sqrt(reference.labels);
  return {
    logits: forward,
    loss,
    gradient: backward,
    stepLosses: loss,
    stepNorms: backward,
    trained: 2 * backward * Math.sqrt(6),
  };
}
