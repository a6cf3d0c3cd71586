import { readChatTemplates } from './chat-template.js';
import { type JsonObject, readOptionalJsonFile } from './json-file.js';
import { MAX_TOKENIZER_BYTES } from './tokenizer.js';
import { type NamedTokens, namedTokensOf, readTokenizerConfig } from './tokenizer-config.js';

/** The files of a tokenizer as they are, for writing them in another format. */
export interface TokenizerFiles {
  /** tokenizer.json. */
  tokenizer: JsonObject;
  /** tokenizer_config.json. */
  config: JsonObject;
  named: NamedTokens;
  /** The source of the chat template; null if the model has none. */
  chatTemplate: string | null;
}

/**
 * Reads the tokenizer and the chat template of a base-model folder without loading them.
 *
 * @returns null if the folder has no tokenizer.json
 * @throws ProductError `model_file_corrupt`, naming the file
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles | null> {
  const tokenizer = await readOptionalJsonFile(folder, 'tokenizer.json', MAX_TOKENIZER_BYTES);
  if (tokenizer === null) return null;
  const config = await readTokenizerConfig(folder);
  const templates = await readChatTemplates(folder, config);
  return { tokenizer, config, named: namedTokensOf(config), chatTemplate: templates?.source ?? null };
}
