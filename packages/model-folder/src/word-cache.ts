import * as library from '@huggingface/tokenizers';
import type { JsonObject } from './json-file.js';
import { isObject } from './tokenizer-config.js';

/** The library's model: a function from words to tokens. Its fields are read by the library's tokenizer. */
export type LibraryModel = (words: string[]) => string[];

interface LibraryByteLevel {
  pre_tokenize_text(word: string): string[];
}
/** The library exports this class, but its types do not. */
const { ByteLevelPreTokenizer } = library as unknown as {
  ByteLevelPreTokenizer: new (config: JsonObject) => LibraryByteLevel;
};

/** Limits the cache to about 10 MB: common words repeat, but lines of code and numbers do not. */
const MAX_WORDS = 50_000;
const MAX_WORD_LENGTH = 64;

/**
 * Separates a final byte-level step, which only maps the bytes of a word to characters, from a pre-tokenizer. The step can
 * then run together with the model, once per word.
 *
 * @param preTokenizer of tokenizer.json, corrected
 * @param model of tokenizer.json
 * @returns the steps before it, and the byte-level step; null if the pre-tokenizer does not end with one
 */
export function withoutByteLevel(
  preTokenizer: unknown,
  model: unknown,
): { before: unknown; byteLevel: JsonObject | null } {
  const unchanged = { before: preTokenizer, byteLevel: null };
  // With fuse_unk, the tokens of a word depend on its neighbours.
  if (!isObject(preTokenizer) || !isObject(model) || model.fuse_unk === true) return unchanged;
  if (preTokenizer.type === 'ByteLevel') {
    const mapsOnly = preTokenizer.use_regex === false && preTokenizer.add_prefix_space !== true;
    return mapsOnly ? { before: null, byteLevel: preTokenizer } : unchanged;
  }
  if (preTokenizer.type !== 'Sequence' || !Array.isArray(preTokenizer.pretokenizers)) return unchanged;
  const { before, byteLevel } = withoutByteLevel(preTokenizer.pretokenizers.at(-1), model);
  if (byteLevel === null) return unchanged;
  const earlier = preTokenizer.pretokenizers.slice(0, -1);
  return { before: { ...preTokenizer, pretokenizers: before === null ? earlier : [...earlier, before] }, byteLevel };
}

/**
 * Combines the byte-level step and the model, with a cache of the tokens of words. Mapping the bytes of every occurrence took
 * most of the tokenization time. The tokens of a word never depend on its neighbours.
 */
export function cacheWords(model: LibraryModel, byteLevel: JsonObject): LibraryModel {
  const bytes = new ByteLevelPreTokenizer(byteLevel);
  const known = new Map<string, string[]>();
  const tokensOf = (word: string): string[] => {
    const stored = known.get(word);
    if (stored !== undefined) return stored;
    const tokens = model(bytes.pre_tokenize_text(word));
    if (word.length <= MAX_WORD_LENGTH) {
      if (known.size === MAX_WORDS) known.clear();
      known.set(word, tokens);
    }
    return tokens;
  };
  const cached = (words: string[]): string[] => {
    const tokens: string[] = [];
    for (const word of words) for (const token of tokensOf(word)) tokens.push(token);
    return tokens;
  };
  return Object.assign(cached, model);
}
