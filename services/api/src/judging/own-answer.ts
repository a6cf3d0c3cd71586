import { type GenerationRequest, ProductError } from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/queue';

/** The text that a model of this service has written. */
export interface OwnAnswer {
  /** Calls of tools are a line each, as `name(arguments)`. */
  text: string;
  /** True if the limit of tokens has cut it. */
  isCut: boolean;
  promptTokens: number;
  completionTokens: number;
}

/**
 * Asks a model of this service, and waits for the whole of its one answer.
 * @throws ProductError why the worker failed; as `ask` of the client; the reason of `signal`
 */
export async function ownAnswer(
  generation: Pick<GenerationClient, 'ask'>,
  request: GenerationRequest,
  { waitMs, signal }: { waitMs: number; signal: AbortSignal },
): Promise<OwnAnswer> {
  const answer: OwnAnswer = { text: '', isCut: false, promptTokens: 0, completionTokens: 0 };
  for await (const chunk of generation.ask(request, { waitMs, signal })) {
    if (chunk.type === 'text') answer.text += chunk.text;
    if (chunk.type === 'call') answer.text += `${answer.text === '' ? '' : '\n'}${chunk.name}(${chunk.arguments})`;
    if (chunk.type === 'finish') answer.isCut = chunk.reason === 'length';
    if (chunk.type === 'failed') throw new ProductError(chunk.failure.code, chunk.failure.message);
    if (chunk.type === 'end') {
      answer.promptTokens = chunk.prompt_tokens;
      answer.completionTokens = chunk.completion_tokens;
    }
  }
  signal.throwIfAborted();
  return answer;
}
