import { ProductError } from '@lorasmith/contracts';
import { decodeSampleResponse, type TopToken } from '@lorasmith/tinker-wire';
import { ApiError } from '../api-error.js';
import type { SessionCalls } from './session-calls.js';

export interface SamplingSettings {
  /** Samples of the prompt. @defaultValue 1 */
  n?: number;
  /** @defaultValue the limit of the service */
  max_tokens?: number;
  /** 0: the most probable token each time. @defaultValue 1 */
  temperature?: number;
  /** @defaultValue 1 */
  top_p?: number;
  /** @defaultValue all tokens */
  top_k?: number;
  /** The same seed has the same samples. @defaultValue another each time */
  seed?: number;
  /** Texts, or ids of tokens, that end a sample; empty: not even the model's own end does. @defaultValue the model's own end */
  stop?: string | string[] | number[];
  /** True for the log-probabilities of the tokens of the prompt. @defaultValue false */
  prompt_logprobs?: boolean;
  /** The most probable tokens of each position of a sample, up to 20. @defaultValue 0 */
  top_logprobs?: number;
  /** The most probable tokens of each position of the prompt, up to 20. @defaultValue 0 */
  top_prompt_logprobs?: number;
}

export interface Sample {
  tokens: number[];
  /** `[tokens]` natural logarithms, at the temperature 1. */
  logprobs: number[];
  stop_reason: 'stop' | 'length';
  /** `[tokens]` the most probable tokens, if asked for. */
  top: TopToken[][] | null;
}

export interface SampledPrompt {
  samples: Sample[];
  /** `[prompt]` null for the first, which nothing predicts. Null unless asked for. */
  prompt_logprobs: (number | null)[] | null;
  /** `[prompt]` Null unless asked for. */
  top_prompt_logprobs: (TopToken[] | null)[] | null;
}

/** Calls again where an api process has died with what it sampled. */
const TRIES = 5;

/** Samples from weights that stay as they are: a base model, an adapter, or a model in training as it was. */
export class Sampler {
  readonly #calls: SessionCalls;
  readonly #id: string;
  #sent = 0;

  constructor(calls: SessionCalls, id: string) {
    this.#calls = calls;
    this.#id = id;
  }

  /**
   * Samples after a prompt of tokens. Several calls may be in work at once.
   * @throws ApiError where it is refused; ProductError with the code of a failure
   */
  async sample(prompt: ArrayLike<number>, settings: SamplingSettings = {}): Promise<SampledPrompt> {
    const { n = 1, prompt_logprobs = false, top_logprobs = 0, top_prompt_logprobs = 0, ...params } = settings;
    const body = {
      sampling_session_id: this.#id,
      num_samples: n,
      prompt: { chunks: [{ type: 'encoded_text', tokens: Array.from(prompt) }] },
      sampling_params: params,
      prompt_logprobs,
      topk_prompt_logprobs: top_prompt_logprobs,
      topk_sample_logprobs: top_logprobs,
    };
    const result = await this.#resultOf(body);
    const { sequences, promptLogProbabilities, promptTop } = decodeSampleResponse(result);
    return {
      samples: sequences.map(({ tokens, logProbabilities, stopReason, top }) => ({
        tokens: Array.from(tokens),
        logprobs: Array.from(logProbabilities),
        stop_reason: stopReason,
        top: top === null ? null : top.map((one) => [...one]),
      })),
      prompt_logprobs: promptLogProbabilities === null ? null : [...promptLogProbabilities],
      top_prompt_logprobs: promptTop === null ? null : promptTop.map((one) => (one === null ? null : [...one])),
    };
  }

  async #resultOf(body: object): Promise<Uint8Array> {
    for (let left = TRIES; ; left--) {
      const answer = await this.#calls.post('/asample', { ...body, seq_id: ++this.#sent });
      const { request_id } = answer as { request_id: string };
      try {
        const result = await this.#calls.result(request_id);
        if (result instanceof Uint8Array) return result;
        throw new ProductError('internal_error', 'The result of a sample is not one.');
      } catch (error) {
        const isLost = error instanceof ApiError && error.status === 410;
        if (!isLost || left === 1) throw error;
      }
    }
  }
}
