import {
  type ChatCompletion,
  type ChatCompletionChunk,
  type ChatCompletionRequest,
  type Completion,
  type CompletionRequest,
  type OpenaiModel,
  ProductError,
} from '@lorasmith/contracts';
import { apiErrorOfText } from './api-error.js';
import { parseEventStream } from './event-stream-parser.js';
import { bodyChunks, type CallOptions, type HttpTransport, unreachable } from './http-transport.js';

/** A request without the fields that the methods set. */
export type ChatCall = Omit<ChatCompletionRequest, 'stream' | 'stream_options'>;
export type CompletionCall = Omit<CompletionRequest, 'stream' | 'stream_options'>;

/** A token of a text, with its probability after the tokens before it. */
export interface TokenScore {
  token: string;
  /** Natural logarithm; null for the first token, which nothing predicts. */
  logprob: number | null;
}

export interface TextScore {
  tokens: TokenScore[];
  /** The sum of the log-probabilities of all tokens but the first. */
  logprob: number;
  /** exp of the mean of the negative log-probabilities; null for a text of one token. */
  perplexity: number | null;
}

/** An answer that is not streamed arrives when its last token does. */
const ANSWER_TIMEOUT_MS = 600_000;

/** The calls of the OpenAI API: text by an adapter, or by a base model. `model` is its id, or its name. */
export function textCalls(transport: HttpTransport) {
  const post = (path: string, request: object, { signal }: CallOptions) => ({
    method: 'POST' as const,
    path,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
    signal,
    timeoutMs: ANSWER_TIMEOUT_MS,
  });

  async function* stream<Chunk>(
    path: string,
    request: object,
    call: CallOptions,
  ): AsyncGenerator<Chunk, void, undefined> {
    const response = await transport.request(post(path, { ...request, stream: true }, call));
    try {
      for await (const { data } of parseEventStream(bodyChunks(response, call.signal))) {
        if (data === '[DONE]') return;
        const error = apiErrorOfText(response.status, data);
        if (error !== null) throw error;
        yield JSON.parse(data) as Chunk;
      }
    } catch (error) {
      call.signal?.throwIfAborted();
      throw unreachable(transport.origin, error);
    }
    throw new ProductError('service_unavailable', 'The answer ended before it was complete. Send the request again.');
  }

  /** Answers a conversation. */
  function chat(request: ChatCall, call: CallOptions = {}): Promise<ChatCompletion> {
    return transport.json<ChatCompletion>(post('/v1/chat/completions', request, call));
  }

  /** Answers like `chat`, in chunks as they come. Leaving the loop ends the work. */
  function streamChat(request: ChatCall, call: CallOptions = {}): AsyncGenerator<ChatCompletionChunk, void, undefined> {
    return stream('/v1/chat/completions', request, call);
  }

  /** Continues a text. */
  function complete(request: CompletionCall, call: CallOptions = {}): Promise<Completion> {
    return transport.json<Completion>(post('/v1/completions', request, call));
  }

  /** Answers like `complete`, in chunks as they come. Leaving the loop ends the work. */
  function streamCompletion(
    request: CompletionCall,
    call: CallOptions = {},
  ): AsyncGenerator<Completion, void, undefined> {
    return stream('/v1/completions', request, call);
  }

  /** The probability of a text, or of the text of these tokens, to a model. Generates nothing. */
  async function score(model: string, text: string | number[], call: CallOptions = {}): Promise<TextScore> {
    const request = { model, prompt: text, max_tokens: 0, echo: true, logprobs: 0 };
    const { choices } = await complete(request, call);
    const { tokens = [], token_logprobs: logprobs = [] } = choices[0]?.logprobs ?? {};
    const scored = logprobs.filter((logprob) => logprob !== null);
    const sum = scored.reduce((total, logprob) => total + logprob, 0);
    return {
      tokens: tokens.map((token, index) => ({ token, logprob: logprobs[index] ?? null })),
      logprob: sum,
      perplexity: scored.length === 0 ? null : Math.exp(-sum / scored.length),
    };
  }

  return {
    chat,
    streamChat,
    complete,
    streamCompletion,
    score,
    /** The base models and adapters that these calls can name. */
    textModels: async (call: CallOptions = {}) =>
      (await transport.json<{ data: OpenaiModel[] }>({ method: 'GET', path: '/v1/models', signal: call.signal })).data,
    textModel: (model: string, { signal }: CallOptions = {}) =>
      transport.json<OpenaiModel>({ method: 'GET', path: `/v1/models/${encodeURIComponent(model)}`, signal }),
  };
}
