/** Token sequences, one after the other in one array, without padding. */
export interface TokenExamples {
  kind: 'tokens';
  /** `[tokens]` token ids of all sequences. */
  ids: Int32Array;
  /** `[tokens]` 1 where the token is a target of the loss. Never 1 at the first token of a sequence: nothing predicts it. */
  trained: Uint8Array;
  /** `[sequences + 1]` sequence i is `ids[offsets[i] … offsets[i + 1]]`. */
  offsets: Float64Array;
  /** `[sequences]` line number (from 1) in the dataset each sequence comes from. */
  lines: Int32Array;
}

/** Rows of a classifier's dataset. */
export interface FeatureExamples {
  kind: 'features';
  /** `[rows, width]`, row after row. */
  features: Float32Array;
  width: number;
  /** `[rows]` */
  labels: Int32Array;
  lines: Int32Array;
}

export type Examples = TokenExamples | FeatureExamples;

/** Number of sequences or rows. */
export function exampleCount(examples: Examples): number {
  return examples.lines.length;
}
