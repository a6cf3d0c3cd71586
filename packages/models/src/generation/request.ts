import type { ModelAdapter } from '../pass.js';

/** How the next token is chosen from the model's distribution: see {@link chooseToken}. */
export interface Sampling {
  /** 0: always the most probable token. */
  temperature: number;
  /** Only the most probable tokens that together reach this probability; 1: all. */
  topP: number;
  /** An integer. The same seed draws the same tokens, beside any other texts. */
  seed: number;
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
  /** Log-probabilities of each new token and of this number of most probable ones in its place; null: none. @defaultValue null */
  logprobs?: number | null | undefined;
  /** The same for the tokens of the prompt. @defaultValue null */
  promptLogprobs?: number | null | undefined;
}

/** A token with its natural log-probability under the model, before temperature and `topP`. */
export interface TokenLogprob {
  id: number;
  logprob: number;
}

/** A token in its place, and the most probable ones there, the first first. */
export interface ScoredToken extends TokenLogprob {
  top: readonly TokenLogprob[];
}

export type GenerationEvent =
  /** A token of the prompt, in their order. The first, at position 0, has no log-probability and no event. */
  | { kind: 'prompt-scored'; position: number; token: ScoredToken }
  /** `scored` is null where no log-probabilities are wanted. A stop token has no such event. */
  | { kind: 'token'; choice: number; id: number; scored: ScoredToken | null }
  /** `stopId`: the token that ended it; null: it has reached `maxNewTokens`, or the model's last position. */
  | { kind: 'ended'; choice: number; stopId: number | null }
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
