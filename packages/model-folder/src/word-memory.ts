import * as library from '@huggingface/tokenizers';
import type { JsonObject } from './json-file.js';
import { isObject } from './tokenizer-config.js';

/** The library's model: called with words, it gives their tokens. Its fields are read by the tokenizer that has it. */
export type LibraryModel = (words: string[]) => string[];

interface LibraryByteLevel {
  pre_tokenize_text(word: string): string[];
}
/** Its own types do not name what it exports. */
const { ByteLevelPreTokenizer } = library as unknown as {
  ByteLevelPreTokenizer: new (config: JsonObject) => LibraryByteLevel;
};

/** Words of a language repeat, lines of code and numbers do not: about 10 MB. */
const MAX_WORDS = 50_000;
const MAX_WORD_LENGTH = 64;

/**
 * Takes a byte-level step that only maps a word's bytes to characters off the end of a pre-tokenizer, so that it can be
 * done together with the model's work, once per word.
 *
 * @param preTokenizer of tokenizer.json, corrected
 * @param model of tokenizer.json
 * @returns what is left, and the step; null where the pre-tokenizer does not end so
 */
export function withoutByteLevel(
  preTokenizer: unknown,
  model: unknown,
): { before: unknown; byteLevel: JsonObject | null } {
  const unchanged = { before: preTokenizer, byteLevel: null };
  // One that joins unknown tokens looks beyond a word.
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
 * The model with a byte-level step before it and a memory for the tokens of words. Mapping the bytes of every word anew
 * took most of the time of tokenizing; a model's tokens of one word never depend on its neighbours.
 */
export function rememberWords(model: LibraryModel, byteLevel: JsonObject): LibraryModel {
  const bytes = new ByteLevelPreTokenizer(byteLevel);
  const known = new Map<string, string[]>();
  const tokensOf = (word: string): string[] => {
    const remembered = known.get(word);
    if (remembered !== undefined) return remembered;
    const tokens = model(bytes.pre_tokenize_text(word));
    if (word.length <= MAX_WORD_LENGTH) {
      if (known.size === MAX_WORDS) known.clear();
      known.set(word, tokens);
    }
    return tokens;
  };
  const remembering = (words: string[]): string[] => {
    const tokens: string[] = [];
    for (const word of words) for (const token of tokensOf(word)) tokens.push(token);
    return tokens;
  };
  return Object.assign(remembering, model);
}
