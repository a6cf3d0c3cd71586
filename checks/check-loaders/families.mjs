import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

export const FAMILIES_DIR = path.join(ROOT_DIR, 'test/fixtures/families');

/** Settings that llama.cpp does not have, and what they are replaced with here. */
const REPLACED = {
  gemma2: { query_pre_attn_scalar: 8 },
  'mistral-no-window-sharded': { hidden_act: 'silu' },
};

/** Three special tokens, and a character for each other id. */
const CHARACTERS = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678'];
const SPECIAL = ['<pad>', '<s>', '</s>'];

/** The tiny models, with their adapters of PEFT. @returns {Promise<string[]>} */
export async function familyCases() {
  return (await readdir(FAMILIES_DIR)).sort();
}

/**
 * Makes a base model of a case, with a tokenizer, in the folder of models.
 * @param {string} name @param {string} modelsDir
 */
export async function addFamily(name, modelsDir) {
  const folder = path.join(modelsDir, name);
  await mkdir(modelsDir, { recursive: true });
  await cp(path.join(FAMILIES_DIR, name, 'base'), folder, { recursive: true });
  const configFile = path.join(folder, 'config.json');
  const text = await readFile(configFile, 'utf8');
  const replaced = JSON.stringify(/** @type {any} */ (REPLACED)[name] ?? {}).slice(1, -1);
  // As text: transformers refuses 3 where it wants 3.0, and JSON.stringify writes 3.
  if (replaced !== '') await writeFile(configFile, text.replace(/\}\s*$/, `, ${replaced}}`));
  const config = JSON.parse(text);
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
  // Texts longer than the window, if there is one, are not what llama.cpp computes.
  const window = name === 'gemma2' ? null : (config.sliding_window ?? null);
  // llama.cpp chooses the factors of LongRoPE by the size of its context, so a text must need the long ones.
  const unlimited = text.includes('long_factor') ? 40 : 24;
  const length = window === null ? unlimited : window - 2;
  return [0, 1, 2].map((start) =>
    Array.from({ length }, (_, index) => CHARACTERS[(7 * index + 5 * start) % CHARACTERS.length]).join(''),
  );
}
