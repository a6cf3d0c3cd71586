import { randomInt } from 'node:crypto';
import {
  type GenerationRequest,
  MAX_CHOICES,
  MAX_TOP_LOGPROBS,
  ProductError,
  type Sampler,
} from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import type { GenerationLimits } from '../openai/generation-request.js';

const orNull = <Schema extends Parameters<typeof Type.Optional>[0]>(schema: Schema) =>
  Type.Optional(Type.Union([schema, Type.Null()]));
const Id = Type.String({ maxLength: 200 });
const TopK = Type.Integer({ minimum: 0, maximum: MAX_TOP_LOGPROBS });
const MAX_PROMPT_TOKENS = 2 ** 20;
const MAX_SAMPLES = 1_024;
const MAX_STOPS = 64;

/** The body of `asample`. */
export const SampleBody = Type.Object({
  sampling_session_id: orNull(Id),
  seq_id: orNull(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  num_samples: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_SAMPLES, default: 1 })),
  prompt: Type.Object({
    chunks: Type.Array(
      Type.Object({
        type: Type.String({ maxLength: 60 }),
        tokens: Type.Optional(Type.Array(Type.Integer({ minimum: 0 }), { maxItems: MAX_PROMPT_TOKENS })),
      }),
      { maxItems: 10_000 },
    ),
  }),
  sampling_params: Type.Object({
    max_tokens: orNull(Type.Integer({ minimum: 1 })),
    seed: orNull(Type.Integer()),
    stop: orNull(
      Type.Union([
        Type.String({ minLength: 1, maxLength: 1_000 }),
        Type.Array(Type.String({ minLength: 1, maxLength: 1_000 }), { maxItems: MAX_STOPS }),
        Type.Array(Type.Integer({ minimum: 0 }), { maxItems: MAX_STOPS }),
      ]),
    ),
    temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 100, default: 1 })),
    top_k: Type.Optional(Type.Integer({ minimum: -1, maximum: 1_000_000, default: -1 })),
    top_p: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 1 })),
  }),
  prompt_logprobs: orNull(Type.Boolean()),
  topk_prompt_logprobs: orNull(TopK),
  topk_sample_logprobs: orNull(TopK),
  target_prompt_logprobs: Type.Optional(Type.Unknown()),
  prompt_alt_tokens_k: orNull(Type.Integer()),
  prompt_logprobs_last_n: orNull(Type.Integer({ minimum: 1 })),
  record_stability_info: orNull(Type.Boolean()),
});
export type SampleBody = Static<typeof SampleBody>;

/** The bound of a random seed, exclusive. */
const SEEDS = 2 ** 48 - 1;

/** A call that samples, as requests for text: each has as many choices as one may, and the first alone scores the prompt. */
export interface SamplingCall {
  promptLength: number;
  /** Top tokens of a position of the prompt and of a sample; 0: none. */
  promptTop: number;
  sampleTop: number;
  scoresPrompt: boolean;
  requests: GenerationRequest[];
}

/** @throws ProductError `invalid_request` for what is not served */
export function samplingCallOf(body: SampleBody, sampler: Sampler, limits: GenerationLimits): SamplingCall {
  refuseUnserved(body);
  const prompt = body.prompt.chunks.flatMap((chunk) => {
    if (chunk.type === 'encoded_text' && chunk.tokens !== undefined) return chunk.tokens;
    throw refused(
      `A chunk of the prompt is of the type ${JSON.stringify(chunk.type)}; only encoded_text is supported.`,
    );
  });
  if (prompt.length === 0) throw refused('The prompt has no tokens.');
  const { sampling_params: params, num_samples: samples = 1 } = body;
  const sampleTop = body.topk_sample_logprobs ?? 0;
  const promptTop = body.topk_prompt_logprobs ?? 0;
  const scoresPrompt = body.prompt_logprobs === true || promptTop > 0;
  const seed = params.seed ?? randomInt(SEEDS);
  const counts = Array.from({ length: Math.ceil(samples / MAX_CHOICES) }, (_, at) =>
    Math.min(MAX_CHOICES, samples - at * MAX_CHOICES),
  );
  const requests = counts.map(
    (n, at): GenerationRequest => ({
      base_model: sampler.base_model,
      adapter: sampler.weights,
      input: {
        kind: 'tokens',
        prompt,
        ...stopsOf(params.stop),
        prompt_logprobs: scoresPrompt && at === 0 ? promptTop : null,
        prompt_last: body.prompt_logprobs_last_n ?? null,
      },
      stop: textsOf(params.stop),
      schema: null,
      n,
      max_tokens: withinLimit(params.max_tokens ?? null, limits),
      temperature: params.temperature ?? 1,
      top_p: params.top_p ?? 1,
      top_k: Math.max(params.top_k ?? -1, 0),
      ...{ min_p: 0, presence_penalty: 0, frequency_penalty: 0, repetition_penalty: 1 },
      // Those of one call differ, and the same call has the same.
      seed: at === 0 ? seed : (seed + at * 0x9e3779b1) % Number.MAX_SAFE_INTEGER,
      logprobs: sampleTop,
    }),
  );
  return { promptLength: prompt.length, promptTop, sampleTop, scoresPrompt, requests };
}

function refuseUnserved(body: SampleBody): void {
  if (body.record_stability_info === true) {
    throw refused(
      'stable_reinforce is not supported: its formula is not published. Train with loss_fn=ppo or importance_sampling, and leave record_stability_info out.',
    );
  }
  if (body.target_prompt_logprobs != null)
    throw refused('target_prompt_logprobs is not supported: score the prompt with each target as its token.');
  if ((body.prompt_alt_tokens_k ?? 0) !== 0)
    throw refused('prompt_alt_tokens_k is not supported: ask for topk_prompt_logprobs.');
}

type Stop = SampleBody['sampling_params']['stop'];

/** An empty list disables even the model's own end. */
function stopsOf(stop: Stop): { stop_tokens: number[]; ends_itself: boolean } {
  if (stop == null || typeof stop === 'string') return { stop_tokens: [], ends_itself: true };
  return { stop_tokens: stop.filter((one) => typeof one === 'number'), ends_itself: stop.length > 0 };
}

function textsOf(stop: Stop): string[] {
  if (stop == null) return [];
  return typeof stop === 'string' ? [stop] : stop.filter((one) => typeof one === 'string');
}

function withinLimit(asked: number | null, { maxTokens }: GenerationLimits): number {
  if (asked === null) return maxTokens;
  if (asked <= maxTokens) return asked;
  throw refused(`max_tokens is ${asked}; this service generates at most ${maxTokens} (GENERATION_MAX_TOKENS).`);
}

function refused(message: string): ProductError {
  return new ProductError('invalid_request', message);
}
