/** The parts of tokenizer.json that determine how a byte-level BPE splits text into words before it applies merges. */
export interface PreTokenization {
  normalizer: unknown;
  preTokenizer: unknown;
  /** Whether a word that is a token becomes that token without merging. */
  ignoreMerges: boolean;
  /** Whether BOS is added if the file does not specify it. */
  addBos: boolean;
}

const byteLevel = (useRegex: boolean) => {
  return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex };
};

const split = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });

const sequence = (...pretokenizers: unknown[]) => ({ type: 'Sequence', pretokenizers });

/** GPT-2's regular expression is built into ByteLevel. */
const GPT2: PreTokenization = {
  normalizer: null,
  preTokenizer: byteLevel(true),
  ignoreMerges: false,
  addBos: false,
};

/** Splits digits into single characters, then as GPT-2. `\p{N}` is equivalent to the original `Digits` pre-tokenizer. */
const SINGLE_DIGITS: PreTokenization = { ...GPT2, preTokenizer: sequence(split('\\p{N}'), byteLevel(true)) };

const LLAMA3: PreTokenization = {
  normalizer: null,
  preTokenizer: sequence(
    split(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
        '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
    ),
    byteLevel(false),
  ),
  ignoreMerges: true,
  addBos: true,
};

const QWEN2: PreTokenization = {
  normalizer: { type: 'NFC' },
  preTokenizer: sequence(
    split(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
        '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
    ),
    byteLevel(false),
  ),
  ignoreMerges: false,
  addBos: false,
};

/**
 * Pre-tokenizations by the value of `tokenizer.ggml.pre`, as in llama.cpp (src/llama-vocab.cpp) and transformers
 * (gguf_tokenizer_mapping.py). As in transformers, "default" is GPT-2's.
 */
export const PRE_TOKENIZATIONS: ReadonlyMap<string, PreTokenization> = new Map([
  ['default', GPT2],
  ['gpt-2', GPT2],
  ['olmo', GPT2],
  ['smollm', SINGLE_DIGITS],
  ['starcoder', SINGLE_DIGITS],
  ['refact', SINGLE_DIGITS],
  ['codeshell', SINGLE_DIGITS],
  ['llama-bpe', LLAMA3],
  ['llama3', LLAMA3],
  ['llama-v3', LLAMA3],
  ['falcon3', LLAMA3],
  ['qwen2', QWEN2],
  ['deepseek-r1-qwen', QWEN2],
]);
