import { randomBytes } from 'node:crypto';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
  Completion,
  CompletionLogprobs,
  FinishReason,
  GeneratedToken,
  GenerationChunk,
  GenerationRequest,
  TokenLogprob,
  Usage,
} from '@lorasmith/contracts';
import type { Static } from 'typebox';

/** The fields of every piece of an answer. */
export interface AnswerHead {
  id: string;
  created: number;
  /** The model named in the request. */
  model: string;
  /** The precision, in the field that the OpenAI API has for what else an answer depends on. */
  system_fingerprint?: string;
}

export type ChoiceChunk = Extract<GenerationChunk, { type: 'text' | 'call' | 'finish' }>;
export type StartPiece = Extract<GenerationChunk, { type: 'start' }>;
export type EndChunk = Extract<GenerationChunk, { type: 'end' }>;

/** The form of the answers of one call. */
export interface AnswerForm<Whole, Chunk> {
  /** Called once it is known how the text is computed, before any other piece. */
  begin(start: StartPiece): void;
  /** The first chunks of a stream. */
  first(): Chunk[];
  chunkOf(piece: ChoiceChunk): Chunk;
  /** The last chunk of a stream whose caller asks for the counts. */
  usageChunk(end: EndChunk): Chunk;
  /** Any other chunk of such a stream. */
  withUsage(chunk: Chunk): Chunk;
  whole(pieces: readonly ChoiceChunk[], end: EndChunk): Whole;
}

export function fingerprintOf({ precision }: StartPiece): string {
  return `fp_${precision}`;
}

export function usageOf(end: EndChunk): Static<typeof Usage> {
  const { prompt_tokens: prompt, completion_tokens: completion } = end;
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
}

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

function choiceOf(index: number, pieces: readonly ChoiceChunk[], asksLogprobs: boolean): Choice {
  const parts: string[] = [];
  const tokens: GeneratedToken[] = [];
  const calls: NonNullable<Choice['message']['tool_calls']> = [];
  let reason: FinishReason = 'stop';
  for (const piece of pieces) {
    if (piece.choice !== index) continue;
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

function callOf({ name, arguments: values }: Extract<GenerationChunk, { type: 'call' }>) {
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

/** Answers in the form of `POST /v1/completions`, where a piece has the form of the whole. */
export function completionForm(head: AnswerHead, request: GenerationRequest): AnswerForm<Completion, Completion> {
  const asksLogprobs = request.logprobs !== null;
  const count = request.input.kind === 'text' ? request.input.prompts.length * request.n : request.n;
  const completion = (choices: Completion['choices'], usage?: Completion['usage']): Completion => ({
    ...head,
    object: 'text_completion',
    choices,
    ...(usage === undefined ? {} : { usage }),
  });
  return {
    begin(start) {
      head.system_fingerprint = fingerprintOf(start);
    },
    first: () => [],
    chunkOf(piece) {
      const isText = piece.type === 'text';
      return completion([
        {
          index: piece.choice,
          text: isText ? piece.text : '',
          logprobs: isText && asksLogprobs ? completionLogprobs(piece.tokens) : null,
          finish_reason: piece.type === 'finish' ? piece.reason : null,
        },
      ]);
    },
    usageChunk: (end) => completion([], usageOf(end)),
    withUsage: (one) => ({ ...one, usage: null }),
    whole(pieces, end) {
      const choices = Array.from({ length: count }, (_, index): Completion['choices'][number] => ({
        index,
        text: '',
        logprobs: null,
        finish_reason: null,
      }));
      const tokens = choices.map((): GeneratedToken[] => []);
      const texts = choices.map((): string[] => []);
      for (const piece of pieces) {
        if (piece.type === 'text') {
          texts[piece.choice]?.push(piece.text);
          tokens[piece.choice]?.push(...piece.tokens);
        } else if (piece.type === 'finish') choices[piece.choice]!.finish_reason = piece.reason;
      }
      for (const [index, choice] of choices.entries()) {
        choice.text = texts[index]!.join('');
        choice.logprobs = asksLogprobs ? completionLogprobs(tokens[index]!) : null;
      }
      return completion(choices, usageOf(end));
    },
  };
}

function completionLogprobs(tokens: readonly GeneratedToken[]): CompletionLogprobs {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ text, logprob, top }) => {
      if (logprob === null) return null;
      // Tokens that are parts of characters can have the same text; the most likely one counts. The token itself is always there.
      const likelyLast = [...top].reverse().map((one) => [one.text, one.logprob ?? 0] as const);
      return { ...Object.fromEntries(likelyLast), [text]: logprob };
    }),
    text_offset: tokens.map(({ offset }) => offset),
  };
}
