import type { Completion, CompletionLogprobs, GeneratedToken, GenerationRequest } from '@lorasmith/contracts';
import { type AnswerForm, type AnswerHead, fingerprintOf, usageOf } from './answer-form.js';

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
