import { type GenerationRequest, ProductError } from '@lorasmith/contracts';
import { conversationOf, type ModelFolder, type ModelText } from '@lorasmith/model-folder';

/** A prompt of a request as tokens. */
export interface PromptTokens {
  ids: Int32Array;
  /** null: it was sent as tokens, or as a conversation. */
  text: string | null;
  /** Whether the token at this position is a part of the text, and not one that the tokenizer has added. */
  isText(position: number): boolean;
}

/**
 * @param begun the text with which the assistant's turn begins
 * @throws ProductError `invalid_request` without a chat template; `chat_template_failed`
 */
export async function promptsOf(
  { input, logprobs }: GenerationRequest,
  text: ModelText,
  { name }: ModelFolder,
  begun = '',
): Promise<PromptTokens[]> {
  const isText = () => true;
  if (input.kind === 'chat') {
    const ids = await text.tokensOf(conversationOf(input), begun);
    if (ids !== null) return [{ ids, text: null, isText }];
    const message = `The base model ${name} has no chat template. Use POST /v1/completions.`;
    throw new ProductError('invalid_request', message, { param: 'messages' });
  }
  const isScored = input.echo && logprobs !== null;
  return input.prompts.map((prompt) => {
    if (typeof prompt !== 'string') return { ids: Int32Array.from(prompt), text: null, isText };
    const ids = text.tokenizer.encodeWithSpecialTokens(prompt);
    return { ids, text: prompt, isText: isScored ? textWithin(ids, text.tokenizer.encode(prompt)) : isText };
  });
}

/** Whether the token at a position is one of the text alone. */
function textWithin(ids: Int32Array, alone: Int32Array): (position: number) => boolean {
  let first = 0;
  while (first < ids.length - alone.length && !alone.every((id, i) => ids[first + i] === id)) first++;
  return (position) => position >= first && position < first + alone.length;
}
