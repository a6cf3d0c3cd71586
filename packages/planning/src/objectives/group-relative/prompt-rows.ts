import {
  type ChatMessage,
  conversationFaults,
  DatasetRow,
  type GradedPromptRow,
  MAX_RENDERED_TOKENS,
  type RenderedRow,
  textsOfConversation,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { type Examples, FileExamples } from '../../example-file/examples.js';
import type { CodedFault } from '../../fault-list.js';
import { renderedParts, type TokenRowSettings, TypedSpecialTokens, tokenOutside } from '../next-token/encode-row.js';
import { unicodeFaults } from '../next-token/next-token.js';
import {
  type ConvertedRow,
  MAX_FAULTS_PER_ROW,
  type RowConverter,
  type RowFault,
  type RowFormat,
} from '../objective.js';
import { partFaults, promptFaults } from '../preference/answer-encoder.js';

/** Rows of a prompt, and of what graders compare its answers with. */
export const PROMPT_FORMAT: RowFormat = {
  name: 'graded_prompt',
  tellingKeys: ['reference'],
  companionKeys: ['prompt'],
  keys: '"prompt", "reference" and optionally "tools" and "parallel_tool_calls"',
  schema: Compile(DatasetRow.graded_prompt),
  faults: (row) => faultsOf(row as GradedPromptRow).slice(0, MAX_FAULTS_PER_ROW),
  named: (row) => partFaults([['prompt', (row as Record<string, unknown>).prompt]]),
};

function faultsOf({ prompt, tools = null, parallel_tool_calls: parallelToolCalls }: GradedPromptRow): RowFault[] {
  if (typeof prompt !== 'string') return conversationFaultsOf(prompt, { tools, parallelToolCalls });
  if (tools !== null) {
    const message = 'Tools belong to prompts of messages, and the prompt is text.';
    return [{ code: 'invalid_dataset', message, param: 'tools' }];
  }
  if (prompt === '') {
    return [
      { code: 'invalid_dataset', message: 'The prompt is empty, so there is nothing to answer.', param: 'prompt' },
    ];
  }
  return unicodeFaults([['prompt', prompt]]);
}

function conversationFaultsOf(
  messages: readonly ChatMessage[],
  context: Parameters<typeof conversationFaults>[1],
): RowFault[] {
  const within = (param: string) => param.replace(/^messages/, 'prompt');
  const wrong = conversationFaults([...messages], context);
  if (wrong.length > 0) {
    return wrong.map(({ message, param }) => ({ code: 'invalid_dataset', message, param: within(param) }));
  }
  const texts = textsOfConversation([...messages], context.tools).map(([path, text]): [string, string] => [
    within(path),
    text,
  ]);
  return [...promptFaults(messages, 'prompt'), ...unicodeFaults(texts)];
}

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

/** Prompts whose answers are sampled. The length of an example is that of its prompt; it has no targets until it is answered. */
export interface PromptExamples extends Examples {
  kind: 'group-relative';
  /** `[tokens]` */
  prompt(index: number): Int32Array;
}

export class StoredPrompts extends FileExamples implements PromptExamples {
  readonly kind = 'group-relative';

  prompt(index: number): Int32Array {
    return this.codes(index);
  }
}
