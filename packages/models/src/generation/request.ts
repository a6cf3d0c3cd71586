import type { TokenLogprob } from '@lorasmith/tensor';
import type { ModelAdapter } from '../pass.js';

/** The choice of the next token from the model's distribution: see the kernel `sampleTokens`. */
export interface Sampling {
  /** 0: always the most probable token. */
  temperature: number;
  /** Only the most probable tokens that together reach this probability; 1: all. */
  topP: number;
  /** Only this many most probable tokens, and those as probable as the last of them; 0: all. @defaultValue 0 */
  topK?: number | undefined;
  /** Only tokens at least this many times as probable as the most probable one; 0: all. @defaultValue 0 */
  minP?: number | undefined;
  /** Subtracted from the logit of each token that is in the new text. @defaultValue 0 */
  presencePenalty?: number | undefined;
  /** Subtracted from the logit of a token for each time that it is in the new text. @defaultValue 0 */
  frequencyPenalty?: number | undefined;
  /** Divides the positive logits of tokens in the prompt and the new text, and multiplies the negative ones. @defaultValue 1 */
  repetitionPenalty?: number | undefined;
  /** An integer. The same seed draws the same tokens, whatever other texts are generated at the same time. */
  seed: number;
}

/** Says which tokens may come next in one text, while it grows. */
export interface TokenConstraint {
  /**
   * Bit `id % 32` of word `id / 32` is set for each token that may come next, stop tokens included. At least one is.
   * @throws Error, which ends the request
   */
  allowed(): Uint32Array;
  /** Takes the token that came, which was allowed and is no stop token. */
  accept(id: number): void;
  /** True if the text can only end here. */
  readonly isComplete: boolean;
}

export interface PromptRequest {
  /** The prompt, of at least one token. */
  promptIds: Int32Array;
  /** null: the base model alone. It must stay in memory until the request has ended. */
  adapter: ModelAdapter | null;
  /** 0: the prompt is only scored. */
  maxNewTokens: number;
  /** @defaultValue the most probable token */
  sampling?: Sampling | undefined;
  /** A text ends when it produces one of these. @defaultValue the model's end-of-text tokens */
  stopIds?: readonly number[] | undefined;
  /** Texts that continue the prompt, each with draws of its own. @defaultValue 1 */
  choices?: number | undefined;
  /** Makes the constraint of each choice. @defaultValue any token may come */
  constraint?: (() => TokenConstraint) | undefined;
  /** Log-probabilities of each new token and of this number of most probable ones in its place; null: none. @defaultValue null */
  logprobs?: number | null | undefined;
  /** The same for the tokens of the prompt. @defaultValue null */
  promptLogprobs?: number | null | undefined;
  /** Only so many last tokens of the prompt are scored. @defaultValue all */
  promptLast?: number | undefined;
}

/** A token in its place, and the most probable ones there, the first first. */
export interface ScoredToken extends TokenLogprob {
  top: readonly TokenLogprob[];
}

export type GenerationEvent =
  /** A token of the prompt that is scored, in their order. The first, at position 0, has no log-probability and no event. */
  | { kind: 'prompt-scored'; position: number; token: ScoredToken }
  /** `scored` is null where no log-probabilities are wanted. A stop token has no such event. */
  | { kind: 'token'; choice: number; id: number; scored: ScoredToken | null }
  /**
   * `stop`: a stop token came, or the constraint allows no further token. `length`: it has reached `maxNewTokens`, or the
   * model's last position.
   * `stop`, where log-probabilities are wanted: the stop token that came.
   */
  | { kind: 'ended'; choice: number; reason: 'stop' | 'length'; stop?: ScoredToken }
  /** Ends all choices. {@link NotFiniteError}, or an error of the engine. */
  | { kind: 'failed'; error: Error };

/** A request's own fault: its adapter's numbers, or the activations that follow from them, are not finite. */
export class NotFiniteError extends Error {
  constructor() {
    super('The model computes numbers with this adapter that are not finite, so no token can be chosen.');
    this.name = 'NotFiniteError';
  }
}

/** Receives what happens to a request, from within {@link Generation.step}; must not throw. */
export type GenerationListener = (event: GenerationEvent) => void;

export interface GenerationHandle {
  /** Ends a choice, or all of them, and frees what they hold. No event follows. Later calls do nothing. */
  cancel(choice?: number): void;
}
