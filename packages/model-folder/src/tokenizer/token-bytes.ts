import { isObject, type JsonObject } from '../config/json-file.js';

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
