import type { GenerationChunk, GenerationRequest } from '@lorasmith/contracts';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import type { PromptRequest } from '@lorasmith/models';
import type { ChoiceOutput } from './choice-output.js';
import { ChoiceText } from './choice-text.js';
import type { GenerationContext } from './generation-context.js';
import type { PromptTokens } from './prompt-tokens.js';
import { SampledTokens } from './sampled-tokens.js';
import type { AnswerCalls } from './tool-calls.js';

/** The part of an answer that its kind decides: what is asked of the generation, and the chunks that come of it. */
export interface AnswerOutput extends Pick<PromptRequest, 'logprobs' | 'promptLogprobs' | 'promptLast' | 'stopIds'> {
  /** True if the stop token that ends a choice is a part of it. */
  keepsStopToken: boolean;
  /** The choices of a prompt. @param index - Of the prompt in its request. */
  choicesOf(prompt: PromptTokens, index: number): ChoiceOutput[];
}

export interface AnswerOutputOptions {
  request: GenerationRequest;
  context: GenerationContext;
  text: ModelText;
  calls: AnswerCalls | null;
  onChunk: (piece: GenerationChunk) => void;
}

/** The output of the kind that the request has. */
export function outputOf(options: AnswerOutputOptions): AnswerOutput {
  const { input } = options.request;
  return input.kind === 'tokens' ? tokenOutput(input, options) : textOutput(options);
}

function textOutput({ request, context, text, calls, onChunk }: AnswerOutputOptions): AnswerOutput {
  const { input, n, logprobs, stop } = request;
  const { tokenizer } = text;
  const isEcho = input.kind === 'text' && input.echo;
  return {
    logprobs,
    promptLogprobs: isEcho ? logprobs : null,
    stopIds: stopTokenIds(context.decoder.architecture, tokenizer),
    keepsStopToken: false,
    /** Texts, which begin with the prompt itself if the request wants it. */
    choicesOf(prompt, index) {
      const tokenTexts = context.tokenTextsOf(text);
      const choices = Array.from({ length: n }, (_, number) => {
        const choice = index * n + number;
        const callsOfChoice = calls?.ofChoice() ?? null;
        const given = { choice, promptIds: prompt.ids, tokenizer, tokenTexts, stop, onChunk };
        return new ChoiceText({ ...given, calls: callsOfChoice });
      });
      if (!isEcho) return choices;
      for (const choice of choices) {
        if (logprobs === null) choice.echo(prompt.text ?? tokenizer.decode(prompt.ids));
        else choice.promptToken(prompt.ids[0]!, null, prompt.isText(0));
      }
      return choices;
    },
  };
}

function tokenOutput(
  input: Extract<GenerationRequest['input'], { kind: 'tokens' }>,
  { request, context, text, onChunk }: AnswerOutputOptions,
): AnswerOutput {
  const { n, logprobs, stop } = request;
  const { prompt_logprobs: promptLogprobs, prompt_last: promptLast } = input;
  const ownEnds = input.ends_itself ? stopTokenIds(context.decoder.architecture, text.tokenizer) : [];
  return {
    logprobs: logprobs ?? 0,
    promptLogprobs,
    promptLast: promptLast ?? undefined,
    stopIds: [...new Set([...input.stop_tokens, ...ownEnds])],
    keepsStopToken: true,
    choicesOf({ ids: promptIds }, index) {
      const choices = Array.from({ length: n }, (_, number) => {
        const choice = index * n + number;
        // All choices have the same prompt: the first reports it.
        const reportsPrompt = number === 0;
        return new SampledTokens({ choice, promptIds, reportsPrompt, tokenizer: text.tokenizer, stop, onChunk });
      });
      const isFirstReported = promptLogprobs !== null && (promptLast ?? promptIds.length) >= promptIds.length;
      if (isFirstReported) choices[0]!.promptToken(promptIds[0]!, null);
      return choices;
    },
  };
}
