import {
  type DecoderArchitecture,
  loadChatTemplate,
  type ModelFolder,
  readTokenizerFiles,
  type TokenizerFiles,
} from '@lorasmith/model-folder';
import type { MetadataValue } from './gguf-file.js';
import {
  addedAround,
  addedTokensOf,
  spacePrefix,
  specialTokenMetadata,
  tokenIdOf,
  vocabularyMetadata,
} from './vocabulary.js';

/**
 * The tokenizer and the chat template of a base model as metadata (`tokenizer.…`). Without a tokenizer.json, llama.cpp takes token
 * ids alone.
 *
 * @throws ProductError model_not_supported, model_file_corrupt
 */
export async function tokenizerMetadata(
  { path, name }: Pick<ModelFolder, 'path' | 'name'>,
  architecture: DecoderArchitecture,
): Promise<[key: string, value: MetadataValue][]> {
  const files = await readTokenizerFiles(path);
  if (files === null) return [['tokenizer.ggml.model', { type: 'string', value: 'none' }]];
  const { tokenizer, named, chatTemplate } = files;
  const around = addedAround(files, name);
  const idOf = (text: string | null) => tokenIdOf(tokenizer, text);
  const ids = {
    bos: idOf(named.bos) ?? architecture.bosTokenId,
    eos: idOf(named.eos) ?? architecture.eosTokenIds[0] ?? null,
    unknown: idOf(named.unk),
    pad: idOf(named.pad) ?? architecture.padTokenId,
    endOfTurn: chatTemplate === null ? null : await endOfTurn(path, files),
  };
  const prefix = spacePrefix(tokenizer);
  // Behind a special token, llama.cpp puts the space too, where transformers does not: wrong in every turn of a conversation. So a
  // model for conversations gets none.
  const hasPrefix = prefix === 'every-part' || (prefix === 'first-part' && chatTemplate === null);
  const isSentencePiece = (tokenizer.model as { byte_fallback?: boolean }).byte_fallback === true;
  const bool = (value: boolean): MetadataValue => ({ type: 'bool', value });
  const settings: [string, MetadataValue][] = [
    ...vocabularyMetadata(files, architecture, name),
    ...specialTokenMetadata(ids, name),
    ['add_bos_token', bool(around.bos)],
    ['add_eos_token', bool(around.eos)],
    ...(isSentencePiece ? [['add_space_prefix', bool(hasPrefix)] as [string, MetadataValue]] : []),
  ];
  return [
    ...settings.map(([key, value]): [string, MetadataValue] => [`tokenizer.ggml.${key}`, value]),
    ...(chatTemplate === null
      ? []
      : [['tokenizer.chat_template', { type: 'string', value: chatTemplate }] as [string, MetadataValue]]),
  ];
}

/** Tokens that llama.cpp looks for in a model whose name contains one of `PHI3`. Without them it does not load. */
const PHI3_TOKENS = ['</s>', '<unk>', '<s>', '<|endoftext|>'];
const PHI3 = /phi-?3/gi;

/** A name by which llama.cpp does not take a model with other tokens for Phi-3, whose special tokens end with their spaces. */
export async function safeName(name: string, { path }: Pick<ModelFolder, 'path'>): Promise<string> {
  if (name.search(PHI3) === -1) return name;
  const files = await readTokenizerFiles(path);
  const isPhi3 = files !== null && PHI3_TOKENS.every((token) => tokenIdOf(files.tokenizer, token) !== null);
  return isPhi3 ? name : name.replace(PHI3, 'phi 3');
}

const PROBE = 'lorasmith';

/** The special token that the chat template writes behind an answer; null if it writes none, or refuses the conversation. */
async function endOfTurn(folder: string, { tokenizer }: TokenizerFiles): Promise<number | null> {
  const template = await loadChatTemplate(folder);
  const messages = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: PROBE },
  ] as const;
  let text: string;
  try {
    text = template!.render(messages, { addGenerationPrompt: false });
  } catch {
    return null;
  }
  const rest = text.slice(text.lastIndexOf(PROBE) + PROBE.length).trimStart();
  const ends = addedTokensOf(tokenizer).filter(({ content }) => content !== '' && rest.startsWith(content));
  const [longest] = ends.sort((a, b) => b.content.length - a.content.length);
  return longest?.id ?? null;
}
