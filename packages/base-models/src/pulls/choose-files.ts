import { ProductError } from '@lorasmith/contracts';
import type { HubFile } from '@lorasmith/hub';

/** The files of a model that are fetched. No other file of a repository ever is: not pickles, not code. */
export interface ChosenFiles {
  /** Settings, tokenizer, template, licence and, if there is one, the index of the weights: first, because they are small. */
  small: HubFile[];
  /** A single file of weights, or all that may belong to the index. */
  weights: HubFile[];
  /** True if the index in `small` says which of `weights` are needed. */
  indexed: boolean;
}

const CONFIG = 'config.json';
const TOKENIZER = 'tokenizer.json';
const SINGLE = 'model.safetensors';
export const WEIGHTS_INDEX = 'model.safetensors.index.json';

/** Files that are read from a base model's folder, and those that a merged model needs where a composite is served. */
const WANTED = new Set([
  CONFIG,
  TOKENIZER,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'processor_config.json',
  'preprocessor_config.json',
  'video_preprocessor_config.json',
]);
/** Files for people; a large one is left out. */
const ABOUT = /^(README\.md|LICEN[CS]E([-_.][A-Za-z0-9._-]{1,40})?|NOTICE(\.(txt|md))?)$/;
const MAX_ABOUT_BYTES = 2 ** 20;
/** The largest tokenizers have 35 MB. */
const MAX_SMALL_BYTES = 128 * 2 ** 20;
/** Limits, for docs/limits.md. */
export const smallFileLimits = {
  bytes: { value: MAX_SMALL_BYTES, unit: 'bytes', beyond: 'the pull fails' },
};
const WEIGHT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors$/;
const PICKLE = /\.(bin|pt|pth|ckpt|pkl|pickle|h5|msgpack)$/;

/**
 * Chooses from the files at the top of a repository.
 * @throws ProductError `model_file_missing`, `model_not_supported` (only pickles or GGUF, a file too large)
 */
export function chooseFiles(files: readonly HubFile[], repo: string): ChosenFiles {
  const named = new Map(files.map((file) => [file.name, file]));
  const hasWeights = named.has(SINGLE) || named.has(WEIGHTS_INDEX);
  // Such a repository often has no config either, and that is not what is wrong with it.
  if (!hasWeights && files.some(({ name }) => name.endsWith('.gguf'))) throw onlyGguf(repo);
  for (const needed of [CONFIG, TOKENIZER]) if (!named.has(needed)) throw missing(repo, needed);
  const indexed = !named.has(SINGLE) && named.has(WEIGHTS_INDEX);
  const small = files.filter(
    ({ name, bytes }) =>
      WANTED.has(name) || (indexed && name === WEIGHTS_INDEX) || (ABOUT.test(name) && bytes <= MAX_ABOUT_BYTES),
  );
  for (const { name, bytes } of small) {
    if (bytes > MAX_SMALL_BYTES) {
      const message = `${repo}: ${name} has ${bytes} bytes; the limit is ${MAX_SMALL_BYTES}.`;
      throw new ProductError('model_not_supported', message);
    }
  }
  const single = named.get(SINGLE);
  if (single !== undefined) return { small, weights: [single], indexed: false };
  if (!indexed) throw withoutWeights(files, repo);
  return { small, weights: files.filter(({ name }) => WEIGHT_NAME.test(name)), indexed: true };
}

/**
 * The weights that the index names.
 * @throws ProductError `model_file_corrupt` for a bad index, `model_file_missing` for a file that the repository lacks
 */
export function weightsOfIndex(index: string, weights: readonly HubFile[], repo: string): HubFile[] {
  const named = new Map(weights.map((file) => [file.name, file]));
  return [...namesInIndex(index, repo)].sort().map((name) => {
    const file = named.get(name);
    if (file === undefined) throw missing(repo, `${name.slice(0, 200)}, which ${WEIGHTS_INDEX} names`);
    return file;
  });
}

function namesInIndex(index: string, repo: string): Set<string> {
  const corrupt = new ProductError('model_file_corrupt', `${repo}: ${WEIGHTS_INDEX} has no usable weight_map.`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(index);
  } catch {
    throw corrupt;
  }
  const map = typeof parsed === 'object' && parsed !== null && 'weight_map' in parsed ? parsed.weight_map : null;
  if (typeof map !== 'object' || map === null) throw corrupt;
  const names = new Set<string>();
  for (const name of Object.values(map)) {
    if (typeof name !== 'string' || !WEIGHT_NAME.test(name)) throw corrupt;
    names.add(name);
  }
  if (names.size === 0) throw corrupt;
  return names;
}

function missing(repo: string, file: string): ProductError {
  const hint =
    file === TOKENIZER ? ' transformers writes it: AutoTokenizer.from_pretrained(…).save_pretrained(…).' : '';
  return new ProductError('model_file_missing', `${repo} has no ${file}.${hint}`);
}

function onlyGguf(repo: string): ProductError {
  const message = `${repo} has its weights only as GGUF, which is not read. Pull the repository that it was made from, or another one with safetensors.`;
  return new ProductError('model_not_supported', message);
}

function withoutWeights(files: readonly HubFile[], repo: string): ProductError {
  if (files.some(({ name }) => PICKLE.test(name))) {
    const message = `${repo} has its weights only in files that can run code when they are loaded (pickles). They are never fetched: choose a model with safetensors.`;
    return new ProductError('model_not_supported', message);
  }
  return missing(repo, 'safetensors at the top of the repository');
}
