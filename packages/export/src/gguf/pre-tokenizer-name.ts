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
export function preTokenizerName(tokenizer: Json): string | null {
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
