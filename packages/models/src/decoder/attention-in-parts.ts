import { type BatchAttention, concat, dispose, type SavedAttention, split, type Tensor } from '@lorasmith/tensor';

/** Some rows of a batch that are next to each other. */
export interface AttentionPart {
  attention: BatchAttention;
  /** Tokens of these rows. */
  tokens: number;
}

/** Attention over a batch whose rows are computed in several parts, since a token sees no other row. */
export function attentionInParts(parts: readonly AttentionPart[]): BatchAttention {
  const sizes = parts.map(({ tokens }) => tokens);
  return {
    forward(qkv, settings, record) {
      const inputs = split(qkv, sizes, 0);
      const results = parts.map(({ attention }, index) => attention.forward(inputs[index]!, settings, record));
      dispose(inputs);
      const output = joined(results.map((result) => result.output));
      return { output, saved: record ? results.map(({ saved }) => saved!) : null };
    },
    backward(gradient, kept, settings) {
      const saved = kept as readonly SavedAttention[];
      const gradients = split(gradient, sizes, 0);
      const byInput = parts.map(({ attention }, index) =>
        attention.backward(gradients[index]!, saved[index]!, settings),
      );
      dispose(gradients);
      return joined(byInput);
    },
  };
}

/** Takes over the tensors. */
function joined(tensors: Tensor[]): Tensor {
  const whole = concat(tensors, 0);
  dispose(tensors);
  return whole;
}
