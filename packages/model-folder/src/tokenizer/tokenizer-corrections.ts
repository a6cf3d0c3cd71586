import { isObject, type JsonObject } from '../config/json-file.js';

/** GPT-2's pattern, which `ByteLevel` applies with `use_regex`. */
const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** A step that writes a space before a text that begins with none. */
const SPACE_BEFORE = { type: 'Metaspace', replacement: ' ', prepend_scheme: 'always', split: false };

/**
 * Rewrites a pre-tokenizer so that `@huggingface/tokenizers` 0.2.0 splits text like the reference (the Rust crate).
 *
 * The library translates the patterns of `Split` from Oniguruma to JavaScript, but not two built-in patterns: `\d` for
 * `Digits`, where the reference matches every numeric character (½, ², Ⅷ), and `\s` in `ByteLevel`, which in JavaScript
 * includes U+FEFF and lacks U+0085. Rewritten as `Split`, both are translated. It also does not know the behavior
 * `MergedWithPrevious`, which Gemma's tokenizers have, leaves out words of an inverted `Isolated`, and keeps texts that `Removed`
 * removes. Its letters of `Whitespace` are those of ASCII, it joins punctuation, counts units of UTF-16 in `FixedLength`, and
 * reads neither `split` nor the older `add_prefix_space` of `Metaspace`.
 */
export function correctPreTokenizer(preTokenizer: unknown): unknown {
  if (!isObject(preTokenizer)) return preTokenizer;
  if (preTokenizer.type === 'Sequence' && Array.isArray(preTokenizer.pretokenizers)) {
    return { ...preTokenizer, pretokenizers: preTokenizer.pretokenizers.map(correctPreTokenizer) };
  }
  const endingWord = wordEndOf(preTokenizer);
  // The first of several in a row ends a word, and each further one is a word.
  if (endingWord !== null) return isolate(`[^${endingWord}]*[${endingWord}]|[^${endingWord}]+`);
  if (preTokenizer.type === 'Digits') return isolate(preTokenizer.individual_digits === true ? '\\p{N}' : '\\p{N}+');
  const { type, behavior, pattern, invert } = preTokenizer;
  if (type === 'Split' && behavior === 'Isolated') return { ...preTokenizer, invert: false };
  const text = isObject(pattern) ? pattern.String : undefined;
  if (type === 'Split' && behavior === 'Removed' && invert !== true && typeof text === 'string') {
    return removed(text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  }
  if (type === 'Whitespace') return { ...removed(`[${WORD}]+|[^${WORD}\\s]+`), invert: true };
  if (type === 'WhitespaceSplit') return removed('\\s+');
  if (type === 'Punctuation') return punctuation(behavior);
  if (type === 'BertPreTokenizer')
    return { type: 'Sequence', pretokenizers: [removed('\\s+'), punctuation('Isolated')] };
  if (type === 'FixedLength') return isolate(`[\\s\\S]{1,${preTokenizer.length}}`);
  if (type === 'Metaspace') return metaspace(preTokenizer);
  if (type === 'ByteLevel' && preTokenizer.use_regex !== false) {
    // The space before a text is part of what the pattern splits.
    const spaced = preTokenizer.add_prefix_space === true ? [SPACE_BEFORE] : [];
    const bytes = { ...preTokenizer, use_regex: false, add_prefix_space: false };
    return { type: 'Sequence', pretokenizers: [...spaced, isolate(GPT2_PATTERN), bytes] };
  }
  return preTokenizer;
}

/** The character, as it is written in a class of a pattern, that a `Split` adds to the word before it; null for any other step. */
export function wordEndOf({ type, behavior, pattern, invert }: JsonObject): string | null {
  if (type !== 'Split' || behavior !== 'MergedWithPrevious' || invert === true) return null;
  const text = isObject(pattern) ? pattern.String : undefined;
  if (typeof text !== 'string' || [...text].length !== 1) return null;
  return text.replace(/[\\\]^-]/, '\\$&');
}

/** The letters and digits of `\w` in the crate `regex`, in a class. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u200C\u200D';
const PUNCTUATION = '[\\p{P}!-/:-@\\[-`{-~]';

function punctuation(behavior: unknown): JsonObject {
  if (behavior === 'Removed') return removed(PUNCTUATION);
  return isolate(behavior === 'Contiguous' ? `${PUNCTUATION}+` : PUNCTUATION);
}

function metaspace(step: JsonObject): JsonObject {
  const space = typeof step.replacement === 'string' ? step.replacement : '\u2581';
  const scheme = step.add_prefix_space === false ? { prepend_scheme: 'never' } : {};
  if (step.split === false) return { ...step, ...scheme };
  return { type: 'Sequence', pretokenizers: [{ ...step, ...scheme }, isolate(`${space}[^${space}]*|[^${space}]+`)] };
}

function removed(pattern: string): JsonObject {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: false };
}

function isolate(pattern: string): JsonObject {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

/** A part of the library that changes a text before it is split. */
export interface LibraryNormalizer {
  config: { type?: unknown };
  /** The steps of a sequence; null for a step that does nothing. */
  normalizers?: (LibraryNormalizer | null)[];
  normalize(text: string): string;
}

const FORMS: ReadonlySet<unknown> = new Set(['NFC', 'NFD', 'NFKC', 'NFKD']);

/**
 * The characters that Unicode 12.1 to 17 normalizes, moves or joins. The reference is of Unicode 12.0 and leaves them as they are. A test compares all
 * characters of Node with digests of the reference's results, so those of a Unicode after 17 would be noticed.
 */
const NEWER = newerThan(
  '7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1add 1ae0-1aeb 1df6-1dfa 32ff a7f1-a7f4 a82c ab69 105c9 105d2 105da 105e4 ' +
    '10781-10785 10787-107b0 107b2-107ba 10d24-10d27 10d69-10d6d 10eab-10eac 10efa-10efb 10efd-10eff 10f46-10f50 10f82-10f85 11070 ' +
    '1133b 11382-11385 1138b 1138e 11390-11391 113b8 113bb 113c2 113c5 113c7-113c9 113ce-113d0 1145e 11839-1183a 11930 11935 11938 ' +
    '1193d-1193e 11943 119e0 11a34 11a47 11a99 11d42 11d44-11d45 11d97 11f41-11f42 1611e-16129 1612f 16d63 16d67-16d6a 16ff0-16ff1 ' +
    '1ccd6-1ccf9 1e030-1e06d 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1f16c ' +
    '1fbf0-1fbf9',
);

/** A correction of a normalizer: Node's Unicode is newer than that of the reference (the Rust crate), which would make other tokens. */
export function keepNewerCharacters(normalizer: LibraryNormalizer | null): void {
  if (normalizer === null) return;
  const { type } = normalizer.config;
  if (FORMS.has(type)) normalizer.normalize = (text) => normalized(text, type as string);
  for (const step of normalizer.normalizers ?? []) keepNewerCharacters(step);
}

/** The texts between newer characters, normalized each by itself: to the reference, such a character joins nothing. */
function normalized(text: string, form: string): string {
  if (text.search(NEWER) === -1) return text.normalize(form);
  return text
    .split(NEWER)
    .map((part, index) => (index % 2 === 0 ? part.normalize(form) : part))
    .join('');
}

function newerThan(ranges: string): RegExp {
  const classes = ranges.split(' ').map((range) => range.replace(/[0-9a-f]+/g, (code) => `\\u{${code}}`));
  return new RegExp(`([${classes.join('')}])`, 'u');
}

/** The part of the library that joins tokens to a text. */
export interface LibraryDecoder {
  config: { type?: unknown };
  /** The steps of a sequence; null for a step that does nothing. */
  decoders?: (LibraryDecoder | null)[];
  /** The decoder of the bytes that tokens stand for. */
  text_decoder?: InstanceType<typeof TextDecoder>;
}

/** A correction of a decoder, which otherwise drops a byte order mark that is written in tokens of bytes. */
export function keepByteOrderMark(decoder: LibraryDecoder | null): void {
  if (decoder === null) return;
  if (decoder.config.type === 'ByteFallback') decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const step of decoder.decoders ?? []) keepByteOrderMark(step);
}
