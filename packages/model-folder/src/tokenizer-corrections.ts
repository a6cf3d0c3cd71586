import { mayBacktrackExponentially } from './backtracking-regex.js';
import type { JsonObject } from './json-file.js';
import { isObject } from './tokenizer-config.js';

/** Limit for nested sequences; real ones are two or three levels deep. */
const MAX_PART_DEPTH = 64;

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
function wordEndOf({ type, behavior, pattern, invert }: JsonObject): string | null {
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

/**
 * The name of the first part of a tokenizer.json that the library handles differently from the reference; null if none.
 * Such a tokenizer must be rejected: wrong token ids would train a wrong adapter without any error.
 */
export function unsupportedPart(tokenizer: JsonObject): string | null {
  const model = isObject(tokenizer.model) ? tokenizer.model : {};
  // Older files have no type; they are BPE if they have merges.
  const type = model.type ?? (Array.isArray(model.merges) ? 'BPE' : undefined);
  if (type !== 'BPE') return `model.type ${JSON.stringify(type ?? null)} (only "BPE" is supported)`;
  if (model.dropout !== undefined && model.dropout !== null && model.dropout !== 0) return 'model.dropout';
  if (Array.isArray(tokenizer.added_tokens)) {
    const singleWord = tokenizer.added_tokens.find((token) => isObject(token) && token.single_word === true);
    if (singleWord) return `an added token with single_word (${JSON.stringify(singleWord.content)})`;
  }
  const texts = textsIn(tokenizer.post_processor);
  if (texts !== 1) return `a post-processor that writes the text ${texts} times`;
  const backtracking = backtrackingRegex([tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder]);
  if (backtracking !== null) {
    return `the regular expression ${JSON.stringify(backtracking.slice(0, 100))}, which can take exponential time`;
  }
  return unsupportedSplit(tokenizer.pre_tokenizer);
}

/** How often a post-processor writes the text. */
function textsIn(postProcessor: unknown): number {
  if (!isObject(postProcessor)) return 1;
  const { type, processors, single } = postProcessor;
  if (type === 'Sequence' && Array.isArray(processors)) {
    return processors.map(textsIn).reduce((product, texts) => product * texts, 1);
  }
  if (type !== 'TemplateProcessing' || !Array.isArray(single)) return 1;
  return single.filter((item) => isObject(item) && 'Sequence' in item).length;
}

/** The first expression in these parts, at any depth, that can take exponential time; null if none. */
function backtrackingRegex(part: unknown, depth = 0): string | null {
  if (typeof part !== 'object' || part === null || depth > MAX_PART_DEPTH) return null;
  for (const [key, value] of Object.entries(part)) {
    if (key === 'Regex' && typeof value === 'string' && mayBacktrackExponentially(value)) return value;
    const found = backtrackingRegex(value, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

/** The behaviors of `Punctuation`: without one, each sign is a word. */
const PUNCTUATION_BEHAVIORS: unknown[] = [undefined, 'Isolated', 'Contiguous', 'Removed'];

function unsupportedSplit(preTokenizer: unknown): string | null {
  if (!isObject(preTokenizer)) return null;
  if (preTokenizer.type === 'Sequence' && Array.isArray(preTokenizer.pretokenizers)) {
    for (const part of preTokenizer.pretokenizers) {
      const unsupported = unsupportedSplit(part);
      if (unsupported !== null) return unsupported;
    }
  }
  const { type, behavior, pattern, invert, length, replacement } = preTokenizer;
  const isKnown = ['Isolated', 'Removed'].includes(String(behavior)) || wordEndOf(preTokenizer) !== null;
  const isUnknown = type === 'Split' && !isKnown;
  if (isUnknown || (type === 'Punctuation' && !PUNCTUATION_BEHAVIORS.includes(behavior))) {
    return `a pre-tokenizer that splits with the behavior ${JSON.stringify(behavior ?? null)}`;
  }
  // Splitting by them in JavaScript keeps the texts of groups.
  const expression = isObject(pattern) ? pattern.Regex : undefined;
  if (type === 'Split' && behavior === 'Removed' && invert !== true && /(?<!\\)\((?!\?)/.test(String(expression))) {
    return 'a pre-tokenizer that removes what an expression with groups matches';
  }
  if (type === 'FixedLength' && !(Number.isInteger(length) && Number(length) > 0))
    return 'a pre-tokenizer without a length';
  if (type === 'Metaspace' && [...String(replacement ?? ' ')].length !== 1)
    return 'a pre-tokenizer with a longer space';
  return null;
}
