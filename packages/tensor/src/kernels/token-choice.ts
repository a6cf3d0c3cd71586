/** How the next token of one text is chosen: see {@link Kernels.sampleTokens}. */
export interface TokenChoice {
  /** The token that is there already and only scored; null: one is chosen. */
  given: number | null;
  /** 0: the most probable token, the first of equal ones. */
  temperature: number;
  /** Only this many most probable tokens, and those as probable as the last of them; 0: all. */
  topK: number;
  /** Only the most probable tokens that together reach this probability, and those as probable as the last of them; 1: all. */
  topP: number;
  /** Only tokens at least this many times as probable as the most probable one; 0: all. */
  minP: number;
  /** Uniform in [0, 1), used in steps of 2^-32. */
  draw: number;
  /** Null: none. */
  penalties: TokenPenalties | null;
  /** Bit `id % 32` of word `id / 32` is set for each allowed token; words that are missing allow none. Null: all are allowed. */
  allowed: Uint32Array | null;
  /** The count of most probable tokens whose log-probabilities are wanted with that of the token; null: not even that. */
  logprobs: number | null;
}

/** Changes to the logits of some tokens: `logit / repetition` where it is positive, else `logit * repetition`; less what is subtracted. */
export interface TokenPenalties {
  /** Greater than 0; 1 changes nothing. */
  repetition: number;
  /** Different tokens. */
  ids: Int32Array;
  /** `[ids]` */
  subtracted: Float32Array;
}

/** A token with its natural log-probability under the model: of the logits as they are, before temperature, penalties and `topP`. */
export interface TokenLogprob {
  id: number;
  logprob: number;
}

export interface ChosenToken {
  id: number;
  /** Null where it is not wanted. */
  logprob: number | null;
  /** The most probable tokens, the first of equal ones first. */
  top: readonly TokenLogprob[];
}

/**
 * The log-probability of a token.
 * @param below the greatest logit less that of the token
 * @param sum of the weights of all tokens at temperature 1, in units of 2^-40
 */
export function logprobOf(below: number, sum: number): number {
  return 0 - below - Math.log(sum / 2 ** 40);
}
