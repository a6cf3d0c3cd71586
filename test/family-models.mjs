import { cp, mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** A folder for each case: a tiny random model of a family, and an adapter that PEFT trained for it. */
export const FAMILIES_DIR = fileURLToPath(new URL('fixtures/families', import.meta.url));

/** The same of models in 4 bits. */
export const QUANTIZED_DIR = fileURLToPath(new URL('fixtures/quantized', import.meta.url));

/** Three special tokens, and a character for each other id. */
const SPECIAL = ['<pad>', '<s>', '</s>'];
export const CHARACTERS = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678'];

/** Text of these characters. @param {number} from @param {number} step @param {number} length */
const characters = (from, step, length) =>
  Array.from({ length }, (_, i) => CHARACTERS[(from + step * i) % CHARACTERS.length]).join('');

/** Rows to train the models of the cases on: longer than their windows, and within 32 positions. */
export const FAMILY_ROWS = Array.from({ length: 16 }, (_, row) => ({
  prompt: characters(3 * row, 7, 4 + (row % 3)),
  completion: characters(5 * row, 3, 12 + (row % 5)),
}));

/** The names of the cases. @returns {Promise<string[]>} */
export async function familyCases() {
  return (await readdir(FAMILIES_DIR)).sort();
}

/**
 * Makes a base model of a case, with a tokenizer that has a token per character.
 * @param {string} name @param {string} folder
 * @param {string} [cases] the folder of the cases
 * @param {string} [part] the folder of the model in that of its case
 */
export async function writeFamilyModel(name, folder, cases = FAMILIES_DIR, part = 'base') {
  await mkdir(path.dirname(folder), { recursive: true });
  await cp(path.join(cases, name, part), folder, { recursive: true });
  await writeCharacterTokenizer(folder);
}

/** Writes a tokenizer of 64 tokens, one for each character. @param {string} folder of a model */
export async function writeCharacterTokenizer(folder) {
  const added = SPECIAL.map((content, id) => {
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  });
  const vocab = Object.fromEntries([...SPECIAL, ...CHARACTERS].map((token, id) => [token, id]));
  const model = {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    fuse_unk: false,
    byte_fallback: false,
    vocab,
    merges: [],
  };
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    ...{ version: '1.0', truncation: null, padding: null, added_tokens: added, normalizer: null },
    ...{ pre_tokenizer: byteLevel, post_processor: null, decoder: byteLevel, model },
  };
  const settings = {
    ...{ tokenizer_class: 'PreTrainedTokenizerFast', bos_token: '<s>', eos_token: '</s>', pad_token: '<pad>' },
    clean_up_tokenization_spaces: false,
  };
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(path.join(folder, 'tokenizer_config.json'), JSON.stringify(settings));
}
