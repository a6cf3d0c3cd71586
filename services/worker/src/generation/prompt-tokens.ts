import { type GenerationRequest, ProductError } from '@lorasmith/contracts';
import { conversationOf, type ModelFolder, type ModelText } from '@lorasmith/model-folder';

/** A prompt of a request as tokens. */
export interface PromptTokens {
  ids: Int32Array;
  /** null: it was sent as tokens, or as a conversation. */
  text: string | null;
  /** True if the token at this position is a part of the text, and not one that the tokenizer has added. */
  isText(position: number): boolean;
}

/**
 * @param begun the text with which the assistant's turn begins
 * @throws ProductError `invalid_request` without a chat template, and for token ids that the model has not; `chat_template_failed`
 */
export async function promptsOf(
  { input, logprobs }: GenerationRequest,
  text: ModelText,
  { name, architecture }: Pick<ModelFolder, 'name' | 'architecture'>,
  begun = '',
): Promise<PromptTokens[]> {
  const isText = () => true;
  if (input.kind === 'chat') {
    const ids = await text.tokensOf(conversationOf(input), begun);
    if (ids !== null) return [{ ids, text: null, isText }];
    const message = `The base model ${name} has no chat template. Use POST /v1/completions.`;
    throw new ProductError('invalid_request', message, { param: 'messages' });
  }
  if (input.kind === 'tokens') {
    // Of another model, the fault is that it generates nothing.
    if (architecture.kind === 'decoder') checkTokens(input.prompt, architecture.vocabSize);
    return [{ ids: Int32Array.from(input.prompt), text: null, isText }];
  }
  const isScored = input.echo && logprobs !== null;
  return input.prompts.map((prompt) => {
    if (typeof prompt !== 'string') return { ids: Int32Array.from(prompt), text: null, isText };
    const ids = text.tokenizer.encodeWithSpecialTokens(prompt);
    return { ids, text: prompt, isText: isScored ? textWithin(ids, text.tokenizer.encode(prompt)) : isText };
  });
}

/** @throws ProductError `invalid_request` */
function checkTokens(prompt: readonly number[], vocabSize: number): void {
  const position = prompt.findIndex((id) => id >= vocabSize);
  if (position === -1) return;
  const message = `The token at position ${position} of the prompt is ${prompt[position]}; the model has ${vocabSize} tokens, from 0.`;
  throw new ProductError('invalid_request', message, { param: 'prompt' });
}

/** The test for a position, true if its token is one of the text alone. */
function textWithin(ids: Int32Array, alone: Int32Array): (position: number) => boolean {
  let first = 0;
  while (first < ids.length - alone.length && !alone.every((id, i) => ids[first + i] === id)) first++;
  return (position) => position >= first && position < first + alone.length;
}
