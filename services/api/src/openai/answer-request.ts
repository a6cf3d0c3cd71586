import { Readable } from 'node:stream';
import { type GenerationFailure, type GenerationRequest, ProductError } from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/queue';
import { linkSignals, logError, onceClosed, productErrorOf } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Authenticator, watchRevocation } from '../access/authenticate.js';
import { type ConcurrencyQueue, endWhenStalled } from '../access/concurrency-limit.js';
import type { AnswerForm, ChoiceChunk, EndChunk } from './answer-forms.js';
import { openaiErrorBody } from './openai-errors.js';

export interface AnswerOptions {
  generation: GenerationClient;
  /** The queue of requests that are being answered, or wait until fewer are. */
  open: ConcurrencyQueue;
  authenticator: Authenticator;
  /** The time that a request waits for a worker. */
  waitMs: number;
  /** A client that reads nothing for this time is disconnected. */
  stallMs: number;
  /** Aborted when the service shuts down. */
  closing: AbortSignal;
}

export interface StreamChoice {
  stream: boolean;
  includeUsage: boolean;
}

/**
 * Sends the answer of a worker to a request. The status waits for the first piece, so that whatever fails before
 * is an error with its status. A caller who leaves ends the work.
 */
export async function answerRequest<Whole, Chunk>(
  answers: AnswerOptions,
  {
    request,
    reply,
    generation,
    form,
    stream,
    includeUsage,
  }: StreamChoice & {
    request: FastifyRequest;
    reply: FastifyReply;
    generation: GenerationRequest;
    form: AnswerForm<Whole, Chunk>;
  },
): Promise<FastifyReply> {
  const { generationRequests: own, totalGenerationRequests: total } = request.limits;
  const left = new AbortController();
  onceClosed(reply.raw, () => left.abort(new ProductError('cancelled', 'The caller has left.')));
  const { open, closing } = answers;
  const { signal: entering } = linkSignals([left.signal, closing]);
  onceClosed(reply.raw, await open.enter(request.identity.key?.id ?? null, { own, total }, entering));
  const revoked = watchRevocation(answers.authenticator, request, left.signal);
  const { signal } = linkSignals([left.signal, revoked, closing]);
  const pieces = answers.generation.ask(generation, { waitMs: answers.waitMs, signal });
  // A stream that is destroyed before its first read never starts what would end them.
  onceClosed(reply.raw, () => void pieces.return(undefined).catch(() => {}));
  try {
    if (!stream) {
      const whole = await wholeAnswer(pieces, form);
      endWhenStalled(request, reply, answers.stallMs);
      return await reply.send(whole);
    }
    const first = await nextPiece(pieces, form);
    const events = eventsOf(pieces, first, { ...answers, request, reply, form, includeUsage });
    return await reply
      .type('text/event-stream; charset=utf-8')
      .header('cache-control', 'no-store')
      .header('x-accel-buffering', 'no')
      .send(Readable.from(events, { objectMode: false, highWaterMark: STREAM_BUFFER_BYTES }));
  } catch (error) {
    await pieces.return(undefined);
    // Nobody reads this; it ends the request.
    if (left.signal.aborted) throw new ProductError('cancelled', 'The caller has left.', { cause: error });
    throw error;
  }
}

/** Text that waits for a client to read it, besides that in the connection. */
const STREAM_BUFFER_BYTES = 16 * 1024;
const DONE = 'data: [DONE]\n\n';
/** Log-probabilities of an answer that is not streamed, with those of alternatives. Each takes about 170 bytes until it is sent. */
const MAX_LOGPROBS = 500_000;
/** Limits, for docs/limits.md. */
export const wholeAnswerLimits = {
  logprobs: { value: MAX_LOGPROBS, unit: 'log-probabilities', beyond: '400 `invalid_request`' },
};

async function wholeAnswer<Whole, Chunk>(
  pieces: ReturnType<GenerationClient['ask']>,
  form: AnswerForm<Whole, Chunk>,
): Promise<Whole> {
  const choices: ChoiceChunk[] = [];
  let logprobs = 0;
  try {
    for (;;) {
      const piece = await nextPiece(pieces, form);
      if (piece.type === 'end') return form.whole(choices, piece);
      if (piece.type === 'text') logprobs += piece.tokens.reduce((sum, { top }) => sum + 1 + top.length, 0);
      if (logprobs > MAX_LOGPROBS) throw tooManyLogprobs();
      choices.push(piece);
    }
  } finally {
    await pieces.return(undefined);
  }
}

/** The rest of the answer as server-sent events. An error after the first piece is an event of its own, as in the OpenAI API. */
async function* eventsOf<Whole, Chunk>(
  pieces: ReturnType<GenerationClient['ask']>,
  first: ChoiceChunk | EndChunk,
  options: {
    form: AnswerForm<Whole, Chunk>;
    includeUsage: boolean;
    stallMs: number;
    request: FastifyRequest;
    reply: FastifyReply;
  },
): AsyncGenerator<string> {
  const { form, includeUsage, request, reply, stallMs } = options;
  const eventOf = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
  const chunkEvent = (chunk: Chunk) => eventOf(includeUsage ? form.withUsage(chunk) : chunk);
  try {
    for (const chunk of form.first()) yield chunkEvent(chunk);
    for (let piece = first; ; piece = await nextPiece(pieces, form)) {
      if (piece.type === 'end') {
        // From here on a silent connection is one that the client does not read.
        endWhenStalled(request, reply, stallMs);
        if (includeUsage) yield eventOf(form.usageChunk(piece));
        yield DONE;
        return;
      }
      const stall = disconnectAfter(options);
      yield chunkEvent(form.chunkOf(piece));
      clearTimeout(stall);
    }
  } catch (thrown) {
    const error = productErrorOf(thrown, request);
    if (!reply.raw.destroyed) logError(error, thrown, request);
    endWhenStalled(request, reply, stallMs);
    yield eventOf(openaiErrorBody(error));
  } finally {
    await pieces.return(undefined);
  }
}

/** Runs until the client has taken what was sent. */
function disconnectAfter({
  stallMs,
  request,
  reply,
}: {
  stallMs: number;
  request: FastifyRequest;
  reply: FastifyReply;
}) {
  return setTimeout(() => {
    request.log.info({ stall_ms: stallMs }, 'an answer was ended because its client stopped reading');
    reply.raw.destroy();
  }, stallMs);
}

function tooManyLogprobs(): ProductError {
  const message = `The answer has more than ${MAX_LOGPROBS} log-probabilities, with those of alternatives. Send stream: true, or ask for fewer.`;
  return new ProductError('invalid_request', message, { param: 'logprobs' });
}

export function serviceStopping(): ProductError {
  return new ProductError('service_unavailable', 'The service is stopping. Send the request again.');
}

/** @throws ProductError for an answer that failed, or that was ended from here */
async function nextPiece(
  pieces: ReturnType<GenerationClient['ask']>,
  form: Pick<AnswerForm<unknown, unknown>, 'begin'>,
): Promise<ChoiceChunk | EndChunk> {
  const { value: piece, done } = await pieces.next();
  if (done) throw serviceStopping();
  if (piece.type === 'failed') throw failed(piece.failure);
  if (piece.type === 'start') form.begin(piece);
  // Chunks of tokens answer no request for text.
  else if (piece.type !== 'tokens' && piece.type !== 'prompt-scored') return piece;
  return await nextPiece(pieces, form);
}

function failed({ code, message, param, retry_after_seconds: retryAfterSeconds }: GenerationFailure): ProductError {
  return new ProductError(code, message, { param, retryAfterSeconds });
}
