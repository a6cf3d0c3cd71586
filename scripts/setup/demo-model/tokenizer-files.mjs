/** @typedef {import('./read-gguf.mjs').GgufValue} GgufValue */

/** `llama_token_type`. */
const CONTROL = 3;

/**
 * The tokenizer of the demo model: a byte-level BPE that adds no tokens of its own.
 *
 * `tokenizer.ggml.pre` is `smollm`: every digit is split off, then as GPT-2 does. `\p{N}` stands for the original `Digits`
 * pre-tokenizer, because JavaScript's `\d` is ASCII only.
 *
 * @param {Map<string, GgufValue>} metadata
 * @returns {{ tokenizer: object, tokenizerConfig: object, chatTemplate: string }}
 */
export function tokenizerFiles(metadata) {
  const read = (/** @type {string} */ key) => /** @type {any} */ (metadata.get(`tokenizer.${key}`));
  /** @type {string[]} */
  const tokens = read('ggml.tokens');
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) =>
      read('ggml.token_type')[id] === CONTROL ? [{ id, content, ...flags }] : [],
    ),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: '\\p{N}' }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: read('ggml.merges'),
    },
  };
  const chatTemplate = read('chat_template');
  const tokenizerConfig = {
    bos_token: '<|im_start|>',
    eos_token: '<|im_end|>',
    unk_token: '<|endoftext|>',
    pad_token: '<|im_end|>',
    // In every release of transformers, this class uses tokenizer.json as it is.
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    // Repeats the template for loaders that do not read chat_template.jinja.
    chat_template: chatTemplate,
  };
  return { tokenizer, tokenizerConfig, chatTemplate };
}
