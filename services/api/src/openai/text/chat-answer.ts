import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
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
      if (piece.type === 'text') {
        const logprobs = asksLogprobs ? chatLogprobs(piece.tokens) : null;
        return chunk([{ index: piece.choice, delta: { content: piece.text }, logprobs, finish_reason: null }]);
      }
      return chunk([{ index: piece.choice, delta: {}, logprobs: null, finish_reason: piece.reason }]);
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
  let reason: Choice['finish_reason'] = 'stop';
  for (const piece of pieces) {
    if (piece.type === 'text' && piece.choice === index) {
      parts.push(piece.text);
      if (asksLogprobs) tokens.push(...piece.tokens);
    } else if (piece.type === 'finish' && piece.choice === index) reason = piece.reason;
  }
  return {
    index,
    message: { role: 'assistant', content: parts.join(''), refusal: null },
    logprobs: asksLogprobs ? chatLogprobs(tokens) : null,
    finish_reason: reason,
  };
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
