import { type GradedPromptRow, MAX_RENDERED_TOKENS, type RenderedRow } from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import { renderedParts, type TokenRowSettings, tokenOutside } from '../next-token/token-row-converter.js';
import { TypedSpecialTokens } from '../next-token/typed-special-tokens.js';
import type { ConvertedRow, RowConverter } from '../objective.js';

/** Rows of a prompt as a decoder reads them before it answers. */
export class PromptRowConverter implements RowConverter<GradedPromptRow> {
  readonly #settings: TokenRowSettings;
  readonly #typedSpecialTokens: TypedSpecialTokens;

  constructor(settings: TokenRowSettings) {
    this.#settings = settings;
    this.#typedSpecialTokens = new TypedSpecialTokens(settings.tokenizer);
  }

  convert({ prompt, tools = null }: GradedPromptRow): ConvertedRow | CodedFault[] {
    const { encoder, vocabSize } = this.#settings;
    const isText = typeof prompt === 'string';
    const codes = isText
      ? encoder.encodePrompt(prompt, 'graded_prompt')
      : encoder.encodeAsked({ messages: prompt, tools });
    const outside = codes.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      return [{ code: 'model_file_corrupt', message: tokenOutside(outside, vocabSize, 'prompt') }];
    }
    if (codes.length === 0) return [{ code: 'invalid_dataset', message: 'The prompt has no tokens.', param: 'prompt' }];
    const typed = this.#typedSpecialTokens.firstIn(isText ? { text: prompt } : { messages: [...prompt], tools });
    return { codes, trained: 0, remarks: typed === null ? [] : [{ code: 'special_token_in_text', detail: typed }] };
  }

  rendered(codes: Int32Array): RenderedRow {
    const { tokenizer, completionFormat } = this.#settings;
    const ids = codes.subarray(0, MAX_RENDERED_TOKENS);
    const first_row = renderedParts(tokenizer, { ids, trained: new Uint8Array(ids.length) });
    return { completion_format: completionFormat, first_row };
  }
}
