/** How a byte-level BPE cuts text into words before it merges: parts of tokenizer.json. */
export interface PreTokenization {
  normalizer: unknown;
  preTokenizer: unknown;
  /** A word that is a token is taken whole, without merging. */
  ignoreMerges: boolean;
  /** Whether a text begins with the BOS token where the file does not say. */
  addBos: boolean;
}

const byteLevel = (useRegex: boolean) => {
  return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex };
};

const split = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });

const sequence = (...pretokenizers: unknown[]) => ({ type: 'Sequence', pretokenizers });

/** GPT-2's own regular expression is the one that ByteLevel has built in. */
const GPT2: PreTokenization = {
  normalizer: null,
  preTokenizer: byteLevel(true),
  ignoreMerges: false,
  addBos: false,
};

/** Every digit alone, then as GPT-2. `\p{N}` is what the `Digits` pre-tokenizer of the original files splits on. */
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
 * By `tokenizer.ggml.pre`, as llama.cpp (src/llama-vocab.cpp) and transformers (gguf_tokenizer_mapping.py) read it.
 * "default" is GPT-2's, as in transformers.
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
