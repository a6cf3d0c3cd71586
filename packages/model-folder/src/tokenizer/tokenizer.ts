import { basename } from 'node:path';
import * as library from '@huggingface/tokenizers';
import { ProductError } from '@lorasmith/contracts';
import { isObject, type JsonObject, readJsonFile } from '../config/json-file.js';
import {
  correctPreTokenizer,
  keepByteOrderMark,
  keepNewerCharacters,
  type LibraryDecoder,
  type LibraryNormalizer,
} from './tokenizer-corrections.js';
import { corruptTokenizerFile, namedTokensOf, readTokenizerConfig } from './tokenizer-files.js';
import { unsupportedPart } from './unsupported-tokenizer.js';
import { type EncodingParts, MissingTokenError, WordEncoder } from './word-encoder.js';

/** A space of SentencePiece's vocabularies. */
const SPACE = '\u2581';
const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/;

/**
 * The bytes that each token adds to a text, by its id; null for special tokens, such as the markers of a turn. Null for a
 * tokenizer whose tokens add no fixed bytes.
 * @param file tokenizer.json
 */
export function tokenBytesOf(file: JsonObject, vocabSize: number): (Uint8Array | null)[] | null {
  const { model, decoder } = file;
  if (!isObject(model) || !isObject(model.vocab)) return null;
  const bytesOf = isByteLevel(decoder) ? byteLevelBytes() : isSentencePiece(decoder) ? sentencePieceBytes : null;
  if (bytesOf === null) return null;
  const tokens = new Array<Uint8Array | null>(vocabSize).fill(null);
  for (const [token, id] of Object.entries(model.vocab as Record<string, number>)) tokens[id] = bytesOf(token);
  for (const { id, content, special } of (file.added_tokens ?? []) as AddedToken[]) {
    tokens[id] = special === true ? null : sentencePieceBytes(content);
  }
  return tokens;
}

interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
}

function stepsOf(decoder: unknown): JsonObject[] {
  if (!isObject(decoder)) return [];
  return decoder.type === 'Sequence' && Array.isArray(decoder.decoders) ? decoder.decoders.flatMap(stepsOf) : [decoder];
}

function isByteLevel(decoder: unknown): boolean {
  return stepsOf(decoder).some(({ type }) => type === 'ByteLevel');
}

function isSentencePiece(decoder: unknown): boolean {
  return stepsOf(decoder).some(
    ({ type, pattern, content }) =>
      type === 'Metaspace' || (type === 'Replace' && isObject(pattern) && pattern.String === SPACE && content === ' '),
  );
}

/** Vocabularies of bytes write each as a printable character: GPT-2's `bytes_to_unicode`. */
function byteLevelBytes(): (token: string) => Uint8Array | null {
  const byteOf = new Map<string, number>();
  let further = 256;
  for (let byte = 0; byte < 256; byte++) {
    const isPrinted = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    byteOf.set(String.fromCharCode(isPrinted ? byte : further++), byte);
  }
  return (token) => {
    const bytes = Array.from(token, (character) => byteOf.get(character));
    return bytes.includes(undefined) ? null : Uint8Array.from(bytes as number[]);
  };
}

function sentencePieceBytes(token: string): Uint8Array {
  const byte = BYTE_TOKEN.exec(token)?.[1];
  return byte === undefined ? Buffer.from(token.replaceAll(SPACE, ' ')) : Uint8Array.of(Number.parseInt(byte, 16));
}

/** Converts text to token ids and back, with the same ids as the Rust crate `tokenizers` for the same tokenizer.json. */
export interface Tokenizer {
  /** The ids of the text alone. The text of a special token becomes that token, as in the reference. */
  encode(text: string): Int32Array;
  /** The ids of the text, with the tokens that the tokenizer's post-processor adds, for instance BOS. */
  encodeWithSpecialTokens(text: string): Int32Array;
  /** The tokens that the post-processor adds. */
  tokensAround(): TokensAround;
  decode(ids: Iterable<number>, options?: { skipSpecialTokens?: boolean }): string;
  bosTokenId: number | null;
  eosTokenId: number | null;
  padTokenId: number | null;
  /** The special tokens, such as the markers of a turn, by id. */
  specialTokens: ReadonlyMap<number, string>;
  /** The highest id plus one, including added tokens. */
  vocabSize: number;
  /**
   * The bytes that each token adds to a text, by its id; null for special tokens. Null for a tokenizer whose tokens add no fixed
   * bytes. Made at each call.
   */
  tokenBytes(): (Uint8Array | null)[] | null;
}

/** The tokens that the post-processor of a tokenizer adds to a text. */
export interface TokensAround {
  before: Int32Array;
  after: Int32Array;
}

/** The parts of the library's class that Lorasmith uses. TypeScript cannot resolve the imports of its own type files. */
interface LibraryTokenizer extends EncodingParts {
  decoder: LibraryDecoder | null;
  normalizer: (((text: string) => string) & LibraryNormalizer) | null;
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
}
const LibraryTokenizer = library.Tokenizer as unknown as new (file: JsonObject, config: JsonObject) => LibraryTokenizer;

/** One of the largest is Gemma's, with 33 MB. */
export const MAX_TOKENIZER_BYTES = 128 * 2 ** 20;
/** Limits, for docs/limits.md. */
export const tokenizerLimits = {
  bytes: { value: MAX_TOKENIZER_BYTES, unit: 'bytes', beyond: '422 `model_file_corrupt`' },
};
/** Far above the largest vocabularies (about 262,000), and low enough that an array indexed by id stays cheap. */
const MAX_TOKEN_ID = 16_777_215;

/**
 * Loads the tokenizer of a base-model folder from tokenizer.json and the optional tokenizer_config.json and
 * special_tokens_map.json.
 *
 * @throws ProductError `model_file_missing`, `model_file_corrupt` (naming the file) or `model_not_supported` (naming
 * the part of the tokenizer).
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const file = await readJsonFile(folder, 'tokenizer.json', MAX_TOKENIZER_BYTES);
  const config = await readTokenizerConfig(folder);
  // Listing the values of an object as large as a vocabulary takes long, so it is done once.
  const vocabIds = isObject(file.model) && isObject(file.model.vocab) ? Object.values(file.model.vocab) : null;
  const fault = shapeFault(file, vocabIds);
  if (fault !== null) throw corruptTokenizerFile(folder, 'tokenizer.json', fault);
  const unsupported = unsupportedPart(file);
  if (unsupported !== null) {
    const message = `The tokenizer of the base model "${basename(folder)}" is not supported: ${unsupported}.`;
    throw new ProductError('model_not_supported', message);
  }
  let inner: LibraryTokenizer;
  try {
    // The library receives an empty config: only tokenizer.json determines how text is split.
    const preTokenizer = correctPreTokenizer(file.pre_tokenizer ?? null);
    inner = new LibraryTokenizer({ ...emptyParts, ...file, pre_tokenizer: preTokenizer }, {});
    keepByteOrderMark(inner.decoder);
    keepNewerCharacters(inner.normalizer);
    // The library puts added tokens into the vocabulary of the model, which would make them of letters.
    const { vocab } = file.model as { vocab: object };
    for (const { content } of inner.added_tokens) {
      if (!Object.hasOwn(vocab, content)) inner.model.tokens_to_ids.delete(content);
    }
  } catch (cause) {
    throw corruptTokenizerFile(folder, 'tokenizer.json', (cause as Error).message.slice(0, 200), cause);
  }
  return wrap(folder, inner, file, config, highestId(file, vocabIds as number[]) + 1);
}

/** The library requires every part; files often omit those that they do not use. */
const emptyParts = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };

function wrap(
  folder: string,
  inner: LibraryTokenizer,
  file: JsonObject,
  config: JsonObject,
  vocabSize: number,
): Tokenizer {
  const named = namedTokensOf(config);
  const idOf = (token: string | null) =>
    token === null ? null : (inner.added_tokens_map.get(token)?.id ?? inner.token_to_id(token) ?? null);
  const lacking = (cause?: unknown) => {
    const what = 'its vocabulary lacks a token that its model or post-processor produces';
    return corruptTokenizerFile(folder, 'tokenizer.json', what, cause);
  };
  const encoder = new WordEncoder(inner);
  const encode = (text: string) => {
    try {
      return encoder.encode(text);
    } catch (error) {
      throw error instanceof MissingTokenError ? lacking(error) : error;
    }
  };
  let around: TokensAround | null = null;
  const tokensAround = () => {
    around ??= findTokensAround(inner, lacking);
    return around;
  };
  return {
    encode,
    encodeWithSpecialTokens(text) {
      const { before, after } = tokensAround();
      return Int32Array.from([...before, ...encode(text), ...after]);
    },
    tokensAround,
    decode: (ids, { skipSpecialTokens = false } = {}) => {
      const list = [...ids];
      if (list.length === 0) return '';
      // Clean-up would remove spaces of the original text.
      return inner.decode(list, { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: false });
    },
    bosTokenId: idOf(named.bos),
    eosTokenId: idOf(named.eos),
    padTokenId: idOf(named.pad),
    specialTokens: specialTokensIn(file),
    vocabSize,
    tokenBytes: () => tokenBytesOf(file, vocabSize),
  };
}

/** The tokens around a short text: they are the same for all. */
function findTokensAround(inner: LibraryTokenizer, lacking: () => ProductError): TokensAround {
  const [alone, around] = [false, true].map((isAdded) => {
    const { ids } = inner.encode('a', { add_special_tokens: isAdded });
    // An Int32Array would convert a missing id to 0, which is a valid token.
    if (!ids.every((id) => id !== undefined)) throw lacking();
    return Int32Array.from(ids);
  }) as [Int32Array, Int32Array];
  for (let start = 0; start <= around.length - alone.length; start++) {
    if (alone.every((id, index) => around[start + index] === id)) {
      return { before: around.slice(0, start), after: around.slice(start + alone.length) };
    }
  }
  throw new ProductError('model_not_supported', "The tokenizer's post-processor changes the text.");
}

function specialTokensIn(file: JsonObject): Map<number, string> {
  const added = (file.added_tokens ?? []) as { id: number; content: string; special?: boolean }[];
  return new Map(added.filter(({ special }) => special === true).map(({ id, content }) => [id, content]));
}

function highestId(file: JsonObject, vocabIds: readonly number[]): number {
  let highest = -1;
  for (const id of vocabIds) highest = Math.max(highest, id);
  for (const { id } of (file.added_tokens ?? []) as { id: number }[]) highest = Math.max(highest, id);
  return highest;
}

/** A fault in the parts that are read directly, without the library; null if none. */
function shapeFault(file: JsonObject, vocabIds: readonly unknown[] | null): string | null {
  if (!isObject(file.model)) return 'it has no "model"';
  const { vocab, merges } = file.model;
  // A list belongs to another type of model, which `unsupportedPart` reports.
  if (vocabIds !== null) {
    for (const id of vocabIds) {
      if (!isTokenId(id)) return `its vocabulary has ${JSON.stringify(id)} as a token id`;
    }
  } else if (!Array.isArray(vocab)) {
    return 'it has no "model.vocab"';
  }
  if (merges !== undefined && !Array.isArray(merges)) return '"model.merges" is not a list';
  const added = file.added_tokens ?? [];
  if (!Array.isArray(added)) return '"added_tokens" is not a list';
  for (const token of added) {
    if (!isObject(token) || typeof token.content !== 'string' || !isTokenId(token.id)) {
      return `"added_tokens" has ${JSON.stringify(token)?.slice(0, 100)}, which is not a token`;
    }
  }
  return null;
}

function isTokenId(id: unknown): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_TOKEN_ID;
}
