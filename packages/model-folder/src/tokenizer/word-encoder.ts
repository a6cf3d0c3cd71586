import type { JsonObject } from '../config/json-file.js';
import { stripped, WHITE_SPACE } from '../template/python-values.js';

/** A step of the library that splits texts into words. */
export interface LibraryPreTokenizer {
  config?: JsonObject;
  /** The steps of a sequence; null for a step that does nothing. */
  tokenizers?: (LibraryPreTokenizer | null)[];
  /** The pattern of a `Split`, with the flags `g` and `u`. */
  pattern?: RegExp | null;
  pre_tokenize(text: string | string[], options: { section_index: number }): string[];
}

interface AddedToken {
  content: string;
  id: number;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
}

/** Byte-pair encoding: from words to tokens. */
export interface LibraryModel {
  (words: string[]): string[];
  tokens_to_ids: Map<string, number>;
  unk_token: string | null | undefined;
  unk_token_id: number | undefined;
  /** True if unknown tokens that follow each other become one. */
  fuse_unk: boolean;
  merges: readonly (readonly [string, string])[];
  /** True if unknown characters become the tokens of their bytes. */
  byte_fallback: boolean;
  /** True if a word that is a token is not made by merges. */
  ignore_merges: boolean;
  end_of_word_suffix: string | null | undefined;
  continuing_subword_suffix: string | null | undefined;
}

/** The parts of the library's tokenizer that convert text to tokens. */
export interface EncodingParts {
  normalizer: ((text: string) => string) | null;
  pre_tokenizer: LibraryPreTokenizer | null;
  model: LibraryModel;
  added_tokens: readonly AddedToken[];
  /** Each token by its content, and by its normalized content. */
  added_tokens_map: ReadonlyMap<string, AddedToken>;
}

/** Limits the cache to about 10 MB: common words repeat, but lines of code and numbers do not. */
const MAX_WORDS = 50_000;
const MAX_WORD_LENGTH = 64;

/** The white space that an added token takes: that of Unicode, which is Python's without U+001C to U+001F. */
const SPACES = new Set([...WHITE_SPACE].filter((space) => /\p{White_Space}/u.test(space)));

/** Ids that the vocabulary lacks. */
export class MissingTokenError extends Error {}

/**
 * Encodes text with the parts of the library, but with its own loop around them, which takes a fraction of the time: it
 * searches for added tokens with one expression, takes words from `String.match`, and remembers the ids of words. The tokens
 * of a word never depend on its neighbours, unless the model fuses unknown tokens.
 */
export class WordEncoder {
  readonly #parts: EncodingParts;
  /** Added tokens that are looked for in the text as it is; the others in what the normalizer makes of it. */
  readonly #unnormalized: TokenFinder;
  readonly #normalized: TokenFinder;
  /** True if an added token takes the white space next to it. */
  readonly #strips: boolean;
  readonly #steps: readonly LibraryPreTokenizer[];
  /** The last step, if it only maps the bytes of a word to characters: it then runs once per word. */
  readonly #byteLevel: LibraryPreTokenizer | null;
  /** True if texts with `▁` for spaces can be cut before these. */
  readonly #cutsAtSpaces: boolean;
  readonly #known = new Map<string, number | readonly number[]>();
  #ids = new Int32Array(1024);
  #count = 0;

  constructor(parts: EncodingParts) {
    this.#parts = parts;
    const { added_tokens: added, normalizer } = parts;
    this.#unnormalized = finderOf(added.filter((token) => !token.normalized));
    this.#normalized = finderOf(
      added.filter((token) => token.normalized),
      normalizer,
    );
    this.#strips = added.some(({ lstrip, rstrip }) => lstrip || rstrip);
    const steps = stepsOf(parts.pre_tokenizer);
    const last = steps.at(-1);
    this.#byteLevel = last !== undefined && !parts.model.fuse_unk && onlyMapsBytes(last) ? last : null;
    this.#steps = this.#byteLevel === null ? steps : steps.slice(0, -1);
    this.#cutsAtSpaces = this.#byteLevel === null && canCutAtSpaces(parts.model);
  }

  /**
   * The ids of a text, without what the post-processor adds.
   * @throws MissingTokenError
   */
  encode(text: string): Int32Array {
    this.#count = 0;
    for (const [index, section] of this.#sections(text, this.#unnormalized).entries()) {
      if (section !== '') this.#addSection(section, index);
    }
    return this.#ids.slice(0, this.#count);
  }

  #addSection(section: string, index: number): void {
    if (this.#addAddedToken(section, this.#unnormalized)) return;
    const { normalizer } = this.#parts;
    const text = normalizer === null ? section : normalizer(section);
    for (const [part, ofText] of this.#sections(text, this.#normalized).entries()) this.#addText(ofText, index + part);
  }

  /** @param section index of the text among those between added tokens */
  #addText(text: string, section: number): void {
    if (text === '' || this.#addAddedToken(text, this.#normalized)) return;
    let words = [text];
    for (const step of this.#steps) {
      words = isIsolatingSplit(step)
        ? isolate(words, step.pattern)
        : step.pre_tokenize(words, { section_index: section });
    }
    if (this.#cutsAtSpaces) words = words.flatMap((word) => word.match(WITH_SPACES_BEFORE) ?? []);
    else if (this.#parts.model.fuse_unk) {
      for (const word of words) for (const id of this.#idsOf([word])) this.#add(id);
      return;
    }
    for (const word of words) this.#addWord(word);
  }

  #addAddedToken(text: string, { tokens }: TokenFinder): boolean {
    const token = tokens.get(text);
    if (token !== undefined) this.#add(token.id);
    return token !== undefined;
  }

  #addWord(word: string): void {
    let ids = this.#known.get(word);
    if (ids === undefined) {
      const all = this.#idsOf(
        this.#byteLevel === null ? [word] : this.#byteLevel.pre_tokenize(word, { section_index: 0 }),
      );
      ids = all.length === 1 ? all[0]! : all;
      if (word.length <= MAX_WORD_LENGTH) {
        if (this.#known.size === MAX_WORDS) this.#known.clear();
        this.#known.set(copied(word), ids);
      }
    }
    if (typeof ids === 'number') this.#add(ids);
    else for (const id of ids) this.#add(id);
  }

  #idsOf(words: string[]): number[] {
    const { model } = this.#parts;
    return model(words).map((token) => {
      const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
      if (id === undefined) throw new MissingTokenError();
      return id;
    });
  }

  #add(id: number): void {
    if (this.#count === this.#ids.length) {
      const larger = new Int32Array(2 * this.#ids.length);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#count++] = id;
  }

  /** The added tokens in a text, and the texts between them. */
  #sections(text: string, { expression: added, tokens }: TokenFinder): string[] {
    if (added === null) return [text];
    const sections: string[] = [];
    let end = 0;
    added.lastIndex = 0;
    for (let match = added.exec(text); match !== null; match = added.exec(text)) {
      if (match.index > end) sections.push(text.slice(end, match.index));
      sections.push(match[0]);
      end = added.lastIndex;
    }
    if (end < text.length) sections.push(text.slice(end));
    if (this.#strips) stripNextToTokens(sections, tokens);
    return sections;
  }
}

function stripNextToTokens(sections: string[], added: ReadonlyMap<string, AddedToken>): void {
  for (const [index, section] of sections.entries()) {
    const token = added.get(section);
    const [before, after] = [sections[index - 1], sections[index + 1]];
    // An added token of white space stays.
    if (token?.lstrip && before !== undefined && !added.has(before))
      sections[index - 1] = stripped(before, SPACES, 'rstrip');
    if (token?.rstrip && after !== undefined && !added.has(after))
      sections[index + 1] = stripped(after, SPACES, 'lstrip');
  }
}

/** Some added tokens by the texts that they have, and an expression that finds these. */
interface TokenFinder {
  expression: RegExp | null;
  tokens: ReadonlyMap<string, AddedToken>;
}

function finderOf(added: readonly AddedToken[], normalizer: EncodingParts['normalizer'] = null): TokenFinder {
  const tokens = new Map(
    added.map((token) => [normalizer === null ? token.content : normalizer(token.content), token]),
  );
  return { expression: anyOf([...tokens.keys()]), tokens };
}

/** Finds the longest of these texts at the first index where there is one. Null without any. */
function anyOf(texts: readonly string[]): RegExp | null {
  const longestFirst = texts.filter((text) => text !== '').sort((a, b) => b.length - a.length);
  if (longestFirst.length === 0) return null;
  return new RegExp(longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'), 'g');
}

/** The steps of a pre-tokenizer, one after the other. */
function stepsOf(step: LibraryPreTokenizer | null): LibraryPreTokenizer[] {
  if (step === null) return [];
  return step.tokenizers === undefined ? [step] : step.tokenizers.flatMap(stepsOf);
}

function onlyMapsBytes({ config }: LibraryPreTokenizer): boolean {
  return config?.type === 'ByteLevel' && config.use_regex === false && config.add_prefix_space !== true;
}

function isIsolatingSplit(step: LibraryPreTokenizer): step is LibraryPreTokenizer & { pattern: RegExp } {
  const { config, pattern } = step;
  return (
    config?.type === 'Split' && config.behavior === 'Isolated' && config.invert === false && pattern instanceof RegExp
  );
}

/** Cuts texts into what a pattern matches, and what is between. */
function isolate(texts: readonly string[], pattern: RegExp): string[] {
  const words: string[] = [];
  for (const text of texts) {
    const matches = text.match(pattern) ?? [];
    let length = 0;
    for (const match of matches) length += match.length;
    if (length < text.length) isolateWithGaps(text, pattern, words);
    else for (const match of matches) if (match !== '') words.push(match);
  }
  return words;
}

function isolateWithGaps(text: string, pattern: RegExp, words: string[]): void {
  let end = 0;
  for (const { 0: match, index } of text.matchAll(pattern)) {
    if (index > end) words.push(text.slice(end, index));
    if (match !== '') words.push(match);
    end = index + match.length;
  }
  if (end < text.length) words.push(text.slice(end));
}

/** A space of SentencePiece's vocabularies. */
const SPACE = '\u2581';
const WITH_SPACES_BEFORE = new RegExp(`${SPACE}*[^${SPACE}]+|${SPACE}+`, 'gu');

/**
 * True if the tokens of a text are those of its parts, cut before every space after another character. Models in the
 * form of SentencePiece see a text as one word, which takes long and cannot be remembered. Byte-pair encoding joins
 * neighbours only, so a cut changes nothing where no merge joins a space to what is before it.
 */
function canCutAtSpaces(model: LibraryModel): boolean {
  if (model.ignore_merges || model.end_of_word_suffix || model.continuing_subword_suffix) return false;
  const hasUnknown = !model.byte_fallback || !BYTE_TOKENS.every((token) => model.tokens_to_ids.has(token));
  if (model.fuse_unk && hasUnknown) return false;
  const afterAnother = new RegExp(`[^${SPACE}]${SPACE}`, 'u');
  return model.merges.every((pair) => {
    const merged = pair.join('');
    return merged !== model.unk_token && !afterAnother.test(merged);
  });
}

const BYTE_TOKENS = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);

/** Not a slice, which would keep the whole text that it was cut from. */
function copied(word: string): string {
  return Buffer.from(word, 'utf16le').toString('utf16le');
}
