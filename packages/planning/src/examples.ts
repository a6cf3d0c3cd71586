/** One side of the split: what is trained on, or what is held out. Sequences, or rows of a classifier, by their number. */
export interface ExampleSide {
  /** Number of sequences or rows. */
  count: number;
  /** Of all sequences; a row of a classifier counts as one. */
  tokens: number;
  /** Targets of the loss among them. */
  trainedTokens: number;
  /** Tokens of the longest sequence; 1 for a classifier. */
  longest: number;
  /** Tokens of one sequence; 1 for a classifier. */
  lengthOf(number: number): number;
  /** Targets of the loss in it. */
  labelsOf(number: number): number;
  /** Line (from 1) of the dataset that it comes from. */
  lineOf(number: number): number;
}

export interface TokenExamples extends ExampleSide {
  kind: 'tokens';
  /**
   * `ids`: `[tokens]`. `trained`: `[tokens]` 1 where the token is a target of the loss; never 1 at the first: nothing
   * predicts it.
   */
  sequence(number: number): { ids: Int32Array; trained: Uint8Array };
}

/** Rows of a classifier's dataset. */
export interface FeatureExamples extends ExampleSide {
  kind: 'features';
  width: number;
  /** `features`: `[width]`. */
  row(number: number): { features: Float32Array; label: number };
}

export type Examples = TokenExamples | FeatureExamples;
