import {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  Completion,
  CompletionRequest,
  type GenerationRequest,
  ProductError,
  unsupportedParts,
} from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import type { Authenticator } from '../access/authenticate.js';
import { ConcurrencyQueue } from '../access/concurrency-limit.js';
import { ADAPTER_HEADER } from '../adapters/forward-request.js';
import { type AnswerHead, chatForm, completionForm } from './answer-forms.js';
import { type AnswerOptions, answerRequest, serviceStopping } from './answer-request.js';
import { type GenerationLimits, requestOfChat, requestOfCompletion } from './generation-request.js';
import type { ModelDirectory } from './model-directory.js';
import { openaiErrorAnswers } from './openai-errors.js';

export interface TextRoutesOptions {
  generation: GenerationClient;
  directory: ModelDirectory;
  authenticator: Authenticator;
  limits: GenerationLimits;
  /** @see AnswerOptions */
  waitMs: number;
  /** The longest time that a request waits while as many as allowed are being answered. */
  queueMs: number;
  /** @see AnswerOptions */
  stallMs: number;
}

/** Bytes of a request for text: a prompt as long as the longest contexts. */
const BODY_LIMIT_BYTES = 2 ** 20;
/** Limits, for docs/limits.md. */
export const textLimits = {
  body: { value: BODY_LIMIT_BYTES, unit: 'bytes', beyond: '413 `body_too_large`' },
};

const tags = ['openai'];

/** The calls of the OpenAI API that generate text. */
export async function textRoutes(app: HttpApp, options: TextRoutesOptions): Promise<void> {
  const { generation, directory, authenticator, limits, waitMs, queueMs, stallMs } = options;
  const closing = new AbortController();
  // An answer takes as long as its text, and closing the server would wait for it.
  app.addHook('preClose', async () => closing.abort(serviceStopping()));
  const open = new ConcurrencyQueue({
    what: 'requests to /v1/chat/completions and /v1/completions',
    waitMs: queueMs,
  });
  const answers: AnswerOptions = { generation, open, authenticator, waitMs, stallMs, closing: closing.signal };

  app.post(
    '/chat/completions',
    {
      bodyLimit: BODY_LIMIT_BYTES,
      preValidation: refuseUnsupportedParts,
      schema: {
        operationId: 'createChatCompletion',
        summary: 'Answer a conversation, as the OpenAI API does',
        description:
          'With `stream`: server-sent events, each with a ChatCompletionChunk as `data`, then `[DONE]`. A field of the OpenAI ' +
          'API that is not listed is refused. 503 if no worker can answer now.',
        tags,
        body: ChatCompletionRequest,
        response: {
          200: answerOrStream(ChatCompletion, ChatCompletionChunk),
          ...openaiErrorAnswers(400, 404, 413, 503),
        },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const generation = requestOfChat(body, await directory.resolve(body.model, request.caller), limits);
      nameAdapter(reply, generation);
      const form = chatForm(headOf('chatcmpl', body.model, request), generation);
      return await answerRequest(answers, { request, reply, generation, form, ...streamOf(body) });
    },
  );

  app.post(
    '/completions',
    {
      bodyLimit: BODY_LIMIT_BYTES,
      schema: {
        operationId: 'createCompletion',
        summary: 'Continue a text, or score it, as the OpenAI API does',
        description:
          'With `max_tokens: 0`, `echo` and `logprobs`, the log-probability of each token of the prompt. With `stream`: ' +
          'server-sent events, each with a Completion as `data`, then `[DONE]`.',
        tags,
        body: CompletionRequest,
        response: { 200: answerOrStream(Completion, Completion), ...openaiErrorAnswers(400, 404, 413, 503) },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const generation = requestOfCompletion(body, await directory.resolve(body.model, request.caller), limits);
      nameAdapter(reply, generation);
      const form = completionForm(headOf('cmpl', body.model, request), generation);
      return await answerRequest(answers, { request, reply, generation, form, ...streamOf(body) });
    },
  );
}

/** Refuses what is not supported by its name, before the schema would say only what is. @throws ProductError `invalid_request` */
async function refuseUnsupportedParts({ body }: FastifyRequest): Promise<void> {
  const [fault] = unsupportedParts(body);
  if (fault !== undefined) throw new ProductError('invalid_request', fault.message, { param: fault.param });
}

/** A name may move, so the answer says which adapter it is from. */
function nameAdapter(reply: FastifyReply, { adapter }: GenerationRequest): void {
  if (adapter !== null) reply.header(ADAPTER_HEADER, adapter);
}

function headOf(prefix: string, model: string, { id }: FastifyRequest): AnswerHead {
  return { id: `${prefix}-${id}`, created: Math.floor(Date.now() / 1000), model };
}

function streamOf({ stream, stream_options: options }: Pick<CompletionRequest, 'stream' | 'stream_options'>) {
  return { stream: stream ?? false, includeUsage: options?.include_usage ?? false };
}

function answerOrStream(whole: TSchema, chunk: TSchema) {
  return {
    description: 'The answer.',
    content: { 'application/json': { schema: whole }, 'text/event-stream': { schema: chunk } },
  };
}
