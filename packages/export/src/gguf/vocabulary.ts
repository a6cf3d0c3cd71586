import type { DecoderArchitecture, JsonObject, TokenizerFiles } from '@lorasmith/model-folder';
import { ggufFamily } from './families/gguf-families.js';
import type { MetadataValue } from './gguf-file.js';
import { inexpressible, type Setting, text } from './metadata-setting.js';

/** `llama_token_type`. */
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The score of tokens that are matched in the text as a whole, and of ids without a token, as in llama.cpp's converter. */
const ADDED_SCORE = -1000;
const UNUSED_SCORE = -10_000;

/** The space in the tokens of SentencePiece, and in those of a byte-level BPE. */
const META_SPACE = '▁';
const BYTE_SPACE = 'Ġ';

interface Token {
  text: string;
  type: number;
  isAdded: boolean;
}

interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
}

/** The tokens that a model of `tokenizer.ggml.*` needs besides the vocabulary. */
export interface SpecialTokenIds {
  bos: number | null;
  eos: number | null;
  unknown: number | null;
  pad: number | null;
  /** Ends a turn of a conversation. */
  endOfTurn: number | null;
}

/** Special tokens that llama.cpp's readers of chats look for in the text (`Gemma4Model.set_vocab` in its conversion/gemma.py). */
const VISIBLE_IN_GEMMA4 = new Set([
  ...['<|channel>', '<channel|>', '<|tool_call>', '<tool_call|>', '<|tool_response>', '<tool_response|>', '<|"|>'],
]);

/**
 * The vocabulary as metadata: byte-level BPE with its merges (`gpt2`), SentencePiece with scores (`llama`), or merges of characters
 * (`gemma4`).
 *
 * @throws ProductError model_not_supported, naming the part of tokenizer.json that llama.cpp does not have
 */
export function vocabularyMetadata(
  { tokenizer }: Pick<TokenizerFiles, 'tokenizer'>,
  { family, vocabSize }: Pick<DecoderArchitecture, 'family' | 'vocabSize'>,
  model: string,
): Setting[] {
  const bpe = tokenizer.model as JsonObject;
  const isSentencePiece = bpe.byte_fallback === true;
  const tokens = tokensOf(tokenizer, vocabSize, isSentencePiece, model);
  const list: MetadataValue = { type: 'strings', value: tokens.map(({ text }) => text) };
  const types: MetadataValue = { type: 'int32s', value: tokens.map(({ type }) => type) };
  if (isSentencePiece) {
    checkSentencePiece(tokenizer, model);
    if (ggufFamily(family)?.characterTokenizer === 'gemma4') return mergesOfCharacters(tokenizer, tokens, model);
    const scores = scoresOfMerges(tokens, pairsOf(bpe.merges));
    if (scores === null) {
      throw inexpressible(model, 'the order of the merges in its tokenizer.json is not that of scores of tokens');
    }
    return [
      ['model', text('llama')],
      ['pre', text('default')],
      ['tokens', list],
      ['scores', { type: 'float32s', value: tokens.map((token, id) => scoreOf(token, scores[id]!)) }],
      ['token_type', types],
    ];
  }
  const pre = preTokenizerName(tokenizer);
  if (pre === null) throw inexpressible(model, 'llama.cpp does not know the pre_tokenizer of its tokenizer.json');
  const merges = pairsOf(bpe.merges).map((pair) => pair.map((part) => part.replaceAll(' ', BYTE_SPACE)).join(' '));
  return [
    ['model', text('gpt2')],
    ['pre', text(pre)],
    ['tokens', list],
    ['token_type', types],
    ['merges', { type: 'strings', value: merges }],
  ];
}

/** The tokens and merges as llama.cpp's converter writes them: all scores are the same, and added tokens are found by merging. */
function mergesOfCharacters(tokenizer: JsonObject, tokens: readonly Token[], model: string): Setting[] {
  if (spacePrefix(tokenizer) !== 'none') throw inexpressible(model, 'its tokenizer puts a space before a text');
  const { vocab, merges } = tokenizer.model as { vocab: Record<string, number>; merges: unknown };
  const added = new Map(addedTokensOf(tokenizer).map((token) => [token.id, token]));
  const typeOf = ({ type }: Token, id: number): number => {
    const own = added.get(id);
    if (own === undefined) return type === TYPE.unknown ? TYPE.normal : type;
    if (VISIBLE_IN_GEMMA4.has(own.content)) return TYPE.userDefined;
    if (own.special === true) return TYPE.control;
    return Object.hasOwn(vocab, own.content) ? TYPE.normal : TYPE.userDefined;
  };
  const texts = tokens.map((token, id) => added.get(id)?.content ?? token.text);
  return [
    ['model', text('gemma4')],
    ['tokens', { type: 'strings', value: texts }],
    ['scores', { type: 'float32s', value: tokens.map(() => ADDED_SCORE) }],
    ['token_type', { type: 'int32s', value: tokens.map(typeOf) }],
    ['merges', { type: 'strings', value: pairsOf(merges).map((pair) => pair.join(' ')) }],
  ];
}

/** The ids of special tokens as metadata. @throws ProductError model_not_supported without a token that ends a text */
export function specialTokenMetadata(ids: SpecialTokenIds, model: string): [key: string, value: MetadataValue][] {
  if (ids.eos === null) {
    // llama.cpp would take an ordinary token, and end the text there.
    throw inexpressible(model, 'it has no token that ends a text (eos_token)');
  }
  const all = {
    // Without one, llama.cpp takes an ordinary token for it. Like Qwen's converter, take that which ends a text.
    bos_token_id: ids.bos ?? ids.eos,
    eos_token_id: ids.eos,
    eot_token_id: ids.endOfTurn,
    unknown_token_id: ids.unknown,
    padding_token_id: ids.pad,
  };
  return Object.entries(all).flatMap(([key, value]): [string, MetadataValue][] =>
    value === null ? [] : [[key, { type: 'uint32', value }]],
  );
}

/**
 * Finds out if the tokenizer puts BOS before a text and EOS behind it.
 * @throws ProductError model_not_supported when its post-processor adds other tokens
 */
export function addedAround(
  { tokenizer, named }: Pick<TokenizerFiles, 'tokenizer' | 'named'>,
  model: string,
): { bos: boolean; eos: boolean } {
  const { before, after } = tokensAround(tokenizer.post_processor);
  const [begin, end] = [before.join(), after.join()];
  if ((begin !== '' && begin !== named.bos) || (end !== '' && end !== named.eos)) {
    throw inexpressible(model, `its tokenizer adds ${JSON.stringify([...before, ...after])} to a text`);
  }
  return { bos: begin !== '', eos: end !== '' };
}

/** The special tokens that a post-processor writes before and behind a text. */
function tokensAround(part: unknown): { before: string[]; after: string[] } {
  const { type, processors, single } = (part ?? {}) as JsonObject;
  if (type === 'Sequence' && Array.isArray(processors)) {
    const all = processors.map(tokensAround);
    return { before: all.flatMap(({ before }) => before), after: all.flatMap(({ after }) => after) };
  }
  if (type !== 'TemplateProcessing' || !Array.isArray(single)) return { before: [], after: [] };
  const at = single.findIndex((item) => 'Sequence' in item);
  const names = (items: unknown[]) => items.map((item) => String(((item as JsonObject).SpecialToken as JsonObject).id));
  return { before: names(single.slice(0, at)), after: names(single.slice(at + 1)) };
}

/** The id of a token of the vocabulary; null if it has none of that text. */
export function tokenIdOf(tokenizer: JsonObject, text: string | null): number | null {
  if (text === null) return null;
  const added = addedTokensOf(tokenizer).find(({ content }) => content === text);
  const vocab = (tokenizer.model as JsonObject).vocab as Record<string, number>;
  return added?.id ?? (Object.hasOwn(vocab, text) ? vocab[text]! : null);
}

export function addedTokensOf(tokenizer: JsonObject): AddedToken[] {
  return (tokenizer.added_tokens ?? []) as AddedToken[];
}

function tokensOf(tokenizer: JsonObject, vocabSize: number, isSentencePiece: boolean, model: string): Token[] {
  const { vocab, unk_token: unknown } = tokenizer.model as { vocab: Record<string, number>; unk_token?: string };
  const tokens: Token[] = Array.from({ length: vocabSize }, (_, id) => {
    return { text: `[PAD${id}]`, type: TYPE.unused, isAdded: false };
  });
  const set = (id: number, token: Token) => {
    if (id >= vocabSize) {
      throw inexpressible(
        model,
        `its tokenizer has the id ${id}, but its config.json only ${vocabSize} ids (vocab_size)`,
      );
    }
    tokens[id] = token;
  };
  for (const [text, id] of Object.entries(vocab)) {
    const isByte = isSentencePiece && /^<0x[0-9A-F]{2}>$/i.test(text);
    const type = isByte ? TYPE.byte : text === unknown ? TYPE.unknown : TYPE.normal;
    set(id, { text, type, isAdded: false });
  }
  for (const { id, content, special } of addedTokensOf(tokenizer)) {
    const isControl = special === true || looksSpecial(content);
    const text = isControl ? content : content.replaceAll(META_SPACE, ' ');
    set(id, { text, type: isControl ? TYPE.control : TYPE.userDefined, isAdded: true });
  }
  return tokens;
}

/** True if a token is a control token although some models say otherwise, as in llama.cpp's converter. */
function looksSpecial(text: string): boolean {
  return ['<pad>', '<mask>', '<2mass>', '[@BOS@]'].includes(text) || /^<\|.*\|>$|^<｜.*｜>$|^<unused.*>$/s.test(text);
}

function scoreOf({ type, isAdded }: Token, merged: number): number {
  if (isAdded) return ADDED_SCORE;
  return type === TYPE.unused ? UNUSED_SCORE : merged;
}

/** Merges in either of their forms: `"a b"`, or `["a", "b"]`. */
function pairsOf(merges: unknown): string[][] {
  return ((merges ?? []) as (string | string[])[]).map((merge) => {
    if (typeof merge !== 'string') return merge;
    const space = merge.indexOf(' ', 1);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
}

function checkSentencePiece(tokenizer: JsonObject, model: string): void {
  if (spacePrefix(tokenizer) === null) {
    throw inexpressible(model, 'llama.cpp does not know the normalizer or pre_tokenizer of its tokenizer.json');
  }
}

/**
 * The places where a SentencePiece tokenizer puts a space: before every part of a text between special tokens, before the text alone, or
 * nowhere. Null for any other normalization.
 */
export function spacePrefix(tokenizer: JsonObject): 'every-part' | 'first-part' | 'none' | null {
  const normalizers = partsOf(tokenizer.normalizer, 'normalizers');
  const preTokenizers = partsOf(tokenizer.pre_tokenizer, 'pretokenizers');
  const isReplace = ({ type, pattern, content }: JsonObject) =>
    type === 'Replace' && (pattern as JsonObject).String === ' ' && content === META_SPACE;
  const isPrepend = ({ type, prepend }: JsonObject) => type === 'Prepend' && prepend === META_SPACE;
  // It follows Replace, so there is no space any more.
  const isIdle = ({ type, pattern }: JsonObject) => type === 'Split' && (pattern as JsonObject).String === ' ';
  const [first, second, ...more] = normalizers;
  if (more.length === 0 && first && preTokenizers.every(isIdle)) {
    if (isReplace(first) && second === undefined) return 'none';
    if (isPrepend(first) && second && isReplace(second)) return 'every-part';
  }
  const [metaspace, ...others] = preTokenizers;
  if (normalizers.length > 0 || others.length > 0 || metaspace?.type !== 'Metaspace') return null;
  const { replacement, prepend_scheme: scheme, add_prefix_space: old, split } = metaspace;
  if (replacement !== META_SPACE || split === true) return null;
  if (scheme === 'never' || old === false) return 'none';
  return scheme === 'first' ? 'first-part' : 'every-part';
}

function partsOf(part: unknown, list: string): JsonObject[] {
  const { type, ...settings } = (part ?? {}) as JsonObject;
  if (type === undefined) return [];
  return type === 'Sequence' ? (settings[list] as JsonObject[]) : [part as JsonObject];
}

/** Only its text and whether it is matched as a whole. */
interface ScoredToken {
  text: string;
  isAdded: boolean;
}

/**
 * Scores of tokens that make llama.cpp merge as the merges of a tokenizer.json say. llama.cpp joins any two neighbours that are a
 * token together, the token with the highest score first; a list of merges joins the first of its pairs. Both are the same if
 * every token has all its pairs in the list, one behind the other, as in lists that were made from the scores of SentencePiece.
 *
 * @param tokens by id
 * @returns by id: 0, -1, … in the order of the merges, then the tokens that nothing is merged to; 0 for tokens of bytes and added
 * ones. Null if no scores say the same as the merges.
 */
export function scoresOfMerges(tokens: readonly ScoredToken[], merges: readonly string[][]): number[] | null {
  const ids = new Map(tokens.flatMap(({ text, isAdded }, id) => (isAdded ? [] : [[text, id] as const])));
  const scores = new Array<number>(tokens.length).fill(0);
  const pairs = new Map<number, number>();
  let rank = 0;
  let last = -1;
  for (const [left = '', right = ''] of merges) {
    const id = ids.get(left + right);
    if (id === undefined || !ids.has(left) || !ids.has(right)) return null;
    if (id !== last) {
      // Its pairs are not one behind the other.
      if (pairs.has(id)) return null;
      scores[id] = -rank++;
      last = id;
    }
    pairs.set(id, (pairs.get(id) ?? 0) + 1);
  }
  for (const [text, id] of ids) {
    let possible = 0;
    for (let end = 1; end < text.length; end++) if (ids.has(text.slice(0, end)) && ids.has(text.slice(end))) possible++;
    if (possible !== (pairs.get(id) ?? 0)) return null;
    if (!pairs.has(id) && !/^<0x[0-9A-F]{2}>$/i.test(text)) scores[id] = -rank++;
  }
  return scores;
}

/** A part of tokenizer.json. */
type Json = Record<string, unknown>;

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const SINGLE_DIGITS = '\\p{N}';
/** The expression of Llama 3 and of OpenAI's cl100k; `{1,3}` or nothing says how many digits are one word. */
const LLAMA3 = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|` +
  '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
/** The expression of Qwen3.5, where marks belong to letters. */
const QWEN35 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" +
  '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
/** The expression of Mistral's Tekken and of OpenAI's o200k. */
const O200K = (digits: string, contractions: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+${contractions}|` +
  `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*${contractions}|` +
  `\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";

interface KnownSplitting {
  /** `tokenizer.ggml.pre`. */
  name: string;
  /** Applied one after the other; each match, and what lies between, is a word. */
  patterns: readonly string[];
  /** True if a word that is a token is not merged from parts; null: as the file says, since both give the same. */
  ignoreMerges: boolean | null;
}

/** The ways in which llama.cpp splits text, by the names that it has (`src/llama-vocab.cpp`), of the models that Lorasmith trains. */
const KNOWN: readonly KnownSplitting[] = [
  { name: 'llama-bpe', patterns: [LLAMA3('{1,3}')], ignoreMerges: true },
  { name: 'dbrx', patterns: [LLAMA3('{1,3}')], ignoreMerges: false },
  { name: 'qwen2', patterns: [LLAMA3('')], ignoreMerges: false },
  { name: 'qwen35', patterns: [QWEN35], ignoreMerges: false },
  { name: 'smollm', patterns: [SINGLE_DIGITS, GPT2], ignoreMerges: false },
  { name: 'gpt-2', patterns: [GPT2], ignoreMerges: false },
  { name: 'tekken', patterns: [O200K('', '')], ignoreMerges: true },
  { name: 'gpt-4o', patterns: [O200K('{1,3}', CONTRACTIONS)], ignoreMerges: false },
];

/**
 * The name that llama.cpp has for how a byte-level BPE splits text into words.
 * @returns null if it has none
 */
function preTokenizerName(tokenizer: Json): string | null {
  const patterns = patternsOf(tokenizer.pre_tokenizer);
  if (patterns === null) return null;
  const normalizer = (tokenizer.normalizer as Json | null | undefined)?.type ?? null;
  const ignoreMerges = (tokenizer.model as Json).ignore_merges === true;
  const known = KNOWN.find(
    (each) =>
      each.patterns.join('\n') === patterns.join('\n') &&
      (each.ignoreMerges === null || each.ignoreMerges === ignoreMerges),
  );
  if (known === undefined) return null;
  // llama.cpp does not compose characters, as NFC does for Qwen. Text is composed nearly always.
  const isUsual = normalizer === null || (normalizer === 'NFC' && known.name.startsWith('qwen'));
  return isUsual ? known.name : null;
}

/** The patterns of a pre-tokenizer in their order; null if it does something else than to split at patterns. */
function patternsOf(part: unknown): string[] | null {
  const { type, ...settings } = (part ?? {}) as Json;
  switch (type) {
    case 'Sequence': {
      const all = (settings.pretokenizers as unknown[]).map(patternsOf);
      return all.includes(null) ? null : all.flatMap((each) => each!);
    }
    case 'Digits':
      return settings.individual_digits === true ? [SINGLE_DIGITS] : null;
    case 'Split': {
      const regex = (settings.pattern as Json | undefined)?.Regex;
      const isolates = settings.behavior === 'Isolated' && settings.invert !== true;
      // Some files split off what lies between the words instead; the words are the same.
      const removes = settings.behavior === 'Removed' && settings.invert === true;
      return typeof regex === 'string' && (isolates || removes) ? [regex] : null;
    }
    case 'ByteLevel':
      if (settings.add_prefix_space === true) return null;
      return settings.use_regex === false ? [] : [GPT2];
    default:
      return null;
  }
}
