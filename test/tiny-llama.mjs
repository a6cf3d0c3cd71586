import { cp, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const REFERENCE = fileURLToPath(new URL('fixtures/reference/', import.meta.url));
/** Ids 0 to 2, as in SmolLM2; the reference model ends a text with 2. */
const SPECIAL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];

/**
 * Writes a base model that trains very fast: the weights of the reference `llama-tied`, a tokenizer with one token per
 * printable ASCII character, and SmolLM2's chat template.
 *
 * @param {string} folder
 */
export async function writeTinyLlama(folder) {
  await mkdir(folder, { recursive: true });
  await cp(path.join(REFERENCE, 'llama-tied/base'), folder, { recursive: true });
  await cp(path.join(REFERENCE, 'smollm2/chat_template.jinja'), path.join(folder, 'chat_template.jinja'));
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer()));
  await writeFile(
    path.join(folder, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: '<|im_start|>', eos_token: '<|im_end|>', pad_token: '<|im_end|>' }),
  );
}

function tokenizer() {
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  // GPT-2's byte alphabet: a printable byte stands for itself; space and newline have substitutes.
  const characters = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
  const tokens = [...SPECIAL_TOKENS, 'Ġ', 'Ċ', ...characters];
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({ id, content, ...special })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}
