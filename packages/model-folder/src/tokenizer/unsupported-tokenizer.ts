import { isObject, type JsonObject } from '../config/json-file.js';
import { wordEndOf } from './tokenizer-corrections.js';

/** Limit for nested sequences; real ones are two or three levels deep. */
const MAX_PART_DEPTH = 64;

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

/** The number of times that a post-processor writes the text. */
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

/**
 * True if a regular expression can take exponential time: it repeats a group that contains another repetition, such as
 * `(\w+\s?)+`, or alternatives, such as `(a|a)*`. JavaScript's matcher backtracks. A linear-time matcher is no substitute,
 * because nearly all expressions of tokenizers use lookahead (`\s+(?!\S)`).
 *
 * No known tokenizer contains such an expression. All others take polynomial time at worst.
 *
 * @param source in the syntax of Oniguruma, as in tokenizer.json; it may be invalid, since the compiler checks it later
 */
export function mayBacktrackExponentially(source: string): boolean {
  /** True for each open group whose repetition is ambiguous. The first entry is the complete expression. */
  const groups = [false];
  let inClass = 0;
  for (let i = 0; i < source.length; i++) {
    const character = source[i];
    if (character === '\\') i++;
    // Classes can be nested: `[a-z&&[^b]]`.
    else if (character === '[') inClass++;
    else if (character === ']' && inClass > 0) inClass--;
    if (inClass > 0) continue;
    if (character === '(') groups.push(false);
    else if (character === '|') groups[groups.length - 1] = true;
    else if (character === ')') {
      const isAmbiguous = groups.length > 1 ? groups.pop()! : false;
      if (isAmbiguous && repeats(source, i + 1)) return true;
      // An ambiguous group makes the enclosing group ambiguous: `((a|a))*`.
      if (isAmbiguous) groups[groups.length - 1] = true;
    }
    if (character !== '(' && repeats(source, i + 1)) groups[groups.length - 1] = true;
  }
  return false;
}

/** True if a quantifier at this index allows more than one repetition. */
function repeats(source: string, at: number): boolean {
  const quantifier = /^(?:[*+]|\{(\d*)(,?)(\d*)\})/.exec(source.slice(at, at + 24));
  if (quantifier === null) return false;
  const [text, least = '', comma, most = ''] = quantifier;
  if (!text.startsWith('{')) return true;
  return comma === '' ? Number(least) > 1 : most === '' || Number(most) > 1;
}
