import { randomBytes } from 'node:crypto';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
  FinishReason,
  GeneratedToken,
  GenerationPiece,
  GenerationRequest,
  TokenLogprob,
} from '@lorasmith/contracts';
import { type AnswerForm, type AnswerHead, fingerprintOf, usageOf } from './answer-form.js';

type Choice = ChatCompletion['choices'][number];
type Chunk = ChatCompletionChunk['choices'][number];

/** Answers in the form of `POST /v1/chat/completions`. */
export function chatForm(
  head: AnswerHead,
  request: GenerationRequest,
): AnswerForm<ChatCompletion, ChatCompletionChunk> {
  const asksLogprobs = request.logprobs !== null;
  /** The calls of each choice so far, in a stream. */
  const callCounts = new Map<number, number>();
  const chunk = (choices: Chunk[], usage?: ChatCompletionChunk['usage']): ChatCompletionChunk => ({
    ...head,
    object: 'chat.completion.chunk',
    choices,
    ...(usage === undefined ? {} : { usage }),
  });
  return {
    begin(start) {
      head.system_fingerprint = fingerprintOf(start);
    },
    first: () =>
      Array.from({ length: request.n }, (_, index) =>
        chunk([{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]),
      ),
    chunkOf(piece) {
      const index = piece.choice;
      if (piece.type === 'text') {
        const logprobs = asksLogprobs ? chatLogprobs(piece.tokens) : null;
        return chunk([{ index, delta: { content: piece.text }, logprobs, finish_reason: null }]);
      }
      const before = callCounts.get(index) ?? 0;
      if (piece.type === 'call') {
        callCounts.set(index, before + 1);
        const call = { index: before, ...callOf(piece) };
        return chunk([{ index, delta: { tool_calls: [call] }, logprobs: null, finish_reason: null }]);
      }
      const reason = finishReasonOf(piece.reason, before);
      return chunk([{ index, delta: {}, logprobs: null, finish_reason: reason }]);
    },
    usageChunk: (end) => chunk([], usageOf(end)),
    withUsage: (one) => ({ ...one, usage: null }),
    whole(pieces, end) {
      const choices = Array.from({ length: request.n }, (_, index) => choiceOf(index, pieces, asksLogprobs));
      return { ...head, object: 'chat.completion', choices, usage: usageOf(end) };
    },
  };
}

function choiceOf(index: number, pieces: readonly GenerationPiece[], asksLogprobs: boolean): Choice {
  const parts: string[] = [];
  const tokens: GeneratedToken[] = [];
  const calls: NonNullable<Choice['message']['tool_calls']> = [];
  let reason: FinishReason = 'stop';
  for (const piece of pieces) {
    if (!('choice' in piece) || piece.choice !== index) continue;
    if (piece.type === 'text') {
      parts.push(piece.text);
      if (asksLogprobs) tokens.push(...piece.tokens);
    } else if (piece.type === 'call') calls.push(callOf(piece));
    else reason = piece.reason;
  }
  const text = parts.join('');
  const content = text === '' && calls.length > 0 ? null : text;
  return {
    index,
    message: { role: 'assistant', content, refusal: null, ...(calls.length === 0 ? {} : { tool_calls: calls }) },
    logprobs: asksLogprobs ? chatLogprobs(tokens) : null,
    finish_reason: finishReasonOf(reason, calls.length),
  };
}

function callOf({ name, arguments: values }: Extract<GenerationPiece, { type: 'call' }>) {
  return {
    id: `call_${randomBytes(12).toString('hex')}`,
    type: 'function' as const,
    function: { name, arguments: values },
  };
}

function finishReasonOf(reason: FinishReason, calls: number): Choice['finish_reason'] {
  return reason === 'stop' && calls > 0 ? 'tool_calls' : reason;
}

function chatLogprobs(tokens: readonly GeneratedToken[]): ChatLogprobs {
  return {
    content: tokens.map((token) => ({ ...chatToken(token), top_logprobs: token.top.map(chatToken) })),
    refusal: null,
  };
}

function chatToken({ text, logprob, bytes }: TokenLogprob) {
  return { token: text, logprob: logprob ?? 0, bytes };
}
