/** A prompt of a dataset. */
export interface RolloutPrompt {
  /** `[tokens]` */
  ids: Int32Array;
  line: number;
}

/** A sampled answer. */
export interface SampledAnswer {
  /** `[tokens]`, with the one that ends it, if one does. */
  ids: Int32Array;
  /** `[tokens]` with which they were sampled, or which a pass before the first update has for them. */
  logProbabilities: Float32Array;
  hasEnded: boolean;
}

/** A sampled answer with its reward. */
export interface GradedAnswer extends SampledAnswer {
  reward: number;
}

/** A graded answer, with what its loss needs. */
export interface JudgedAnswer extends GradedAnswer {
  prompt: Int32Array;
  advantage: number;
  isFlat: boolean;
  /** `[tokens]` log-probabilities before the first update; null in the only step that trains on it. */
  sampled: Float32Array | null;
  /** `[tokens]` log-probabilities under the reference; null without one. */
  reference: Float32Array | null;
  /** The factor of a token's loss in that of the answer: losses of answers are averaged. */
  scale: number;
}
