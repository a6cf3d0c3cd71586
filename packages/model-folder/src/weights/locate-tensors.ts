import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { openSafetensors, SafetensorsError, type SafetensorsFile, type TensorEntry } from '@lorasmith/weight-files';
import { isMissing, modelFileLabel, readOptionalJsonFile, unreadable } from '../config/json-file.js';

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const MAX_INDEX_BYTES = 64 * 2 ** 20;
const MAX_SHARDS = 10_000;
/** Limits, for docs/limits.md. */
export const shardLimits = {
  files: { value: MAX_SHARDS, unit: 'files', beyond: '422 `model_file_corrupt`' },
};

/** The name of a weight file next to config.json: a plain name, never a path. */
const SHARD_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors$/;

export interface WeightFile {
  name: string;
  path: string;
  bytes: number;
}

/** The location of a tensor: the name of its file in the folder, and its entry in that file. */
export interface LocatedTensor {
  file: string;
  entry: TensorEntry;
}

export interface WeightFiles {
  /** Sorted by name. */
  files: WeightFile[];
  tensors: ReadonlyMap<string, LocatedTensor>;
}

/**
 * Finds the weights of a folder: `model.safetensors`, or the shards in `model.safetensors.index.json`. It reads and checks
 * the headers only.
 *
 * @throws ProductError model_file_missing, model_file_corrupt (naming the file), model_not_supported (pickles only)
 */
export async function readWeightFiles(folder: string): Promise<WeightFiles> {
  // As in transformers, the single file takes precedence over an index.
  const single = await openIfPresent(folder, SINGLE_FILE);
  if (single) {
    const tensors = new Map<string, LocatedTensor>();
    for (const [name, entry] of single.entries) tensors.set(name, { file: SINGLE_FILE, entry });
    return { files: [single.file], tensors };
  }
  const index = await readOptionalJsonFile(folder, INDEX_FILE, MAX_INDEX_BYTES);
  if (!index) throw await missingWeights(folder);
  return await readShards(folder, readWeightMap(folder, index.weight_map));
}

async function readShards(folder: string, weightMap: ReadonlyMap<string, string>): Promise<WeightFiles> {
  const files: WeightFile[] = [];
  const entriesOfFile = new Map<string, ReadonlyMap<string, TensorEntry>>();
  for (const name of [...new Set(weightMap.values())].sort()) {
    const shard = await openIfPresent(folder, name);
    if (!shard) throw missing(folder, name, ` ${INDEX_FILE} lists it.`);
    files.push(shard.file);
    entriesOfFile.set(name, shard.entries);
  }
  const tensors = new Map<string, LocatedTensor>();
  for (const [name, file] of weightMap) {
    const entry = entriesOfFile.get(file)?.get(name);
    if (!entry) throw corrupt(folder, file, `lacks the tensor ${name}, which ${INDEX_FILE} assigns to it`);
    tensors.set(name, { file, entry });
  }
  return { files, tensors };
}

function readWeightMap(folder: string, value: unknown): Map<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw corrupt(folder, INDEX_FILE, 'has no weight_map');
  }
  const weightMap = new Map<string, string>();
  for (const [tensor, file] of Object.entries(value)) {
    if (typeof file !== 'string' || !SHARD_NAME.test(file)) {
      throw corrupt(
        folder,
        INDEX_FILE,
        `names ${JSON.stringify(file).slice(0, 200)}, which is not the name of a safetensors file in the folder`,
      );
    }
    weightMap.set(tensor, file);
  }
  if (new Set(weightMap.values()).size > MAX_SHARDS)
    throw corrupt(folder, INDEX_FILE, `names over ${MAX_SHARDS} files`);
  return weightMap;
}

async function openIfPresent(folder: string, name: string) {
  const path = join(folder, name);
  const label = modelFileLabel(folder, name);
  let opened: SafetensorsFile | undefined;
  try {
    const status = await stat(path);
    if (!status.isFile()) throw new ProductError('model_file_corrupt', `${label} is not a file.`);
    opened = await openSafetensors(path);
    return { file: { name, path, bytes: status.size }, entries: opened.tensors };
  } catch (error) {
    if (isMissing(error)) return null;
    throw asModelError(error, folder, name);
  } finally {
    await opened?.close();
  }
}

/** Converts an error of the safetensors reader to a ProductError that names the file. */
export function asModelError(error: unknown, folder: string, file: string): ProductError {
  if (error instanceof SafetensorsError) {
    const message = `${modelFileLabel(folder, file)} is not a valid safetensors file: ${error.message}. Copy it again.`;
    return new ProductError('model_file_corrupt', message, { cause: error });
  }
  return unreadable(error, modelFileLabel(folder, file));
}

async function missingWeights(folder: string): Promise<ProductError> {
  const found = await weightsOfOtherFormat(folder);
  return found ?? missing(folder, SINGLE_FILE, ` A base model needs it, or ${INDEX_FILE} and the files that it lists.`);
}

/** The error of a folder with a file of weights in a format that is not read; null: it has none. */
export async function weightsOfOtherFormat(folder: string): Promise<ProductError | null> {
  const names = await readdir(folder).catch(() => []);
  const pickle = names.find((name) => /^pytorch_model.*\.bin$|\.(pt|pth|ckpt)$/.test(name));
  if (pickle) {
    const reason = 'a pickle can run arbitrary code. Convert it to safetensors';
    return new ProductError('model_not_supported', `${modelFileLabel(folder, pickle)} is not supported: ${reason}.`);
  }
  const gguf = names.find((name) => name.endsWith('.gguf'));
  if (gguf) {
    const advice = `Pull the model from the hub as safetensors, or convert the file with transformers (from_pretrained(…, gguf_file="${gguf}"), then save_pretrained).`;
    const message = `${modelFileLabel(folder, gguf)} is not in safetensors format, the only one that is read. ${advice}`;
    return new ProductError('model_not_supported', message);
  }
  return null;
}

function missing(folder: string, file: string, more: string): ProductError {
  return new ProductError('model_file_missing', `${modelFileLabel(folder, file)} is missing.${more}`);
}

function corrupt(folder: string, file: string, what: string): ProductError {
  return new ProductError('model_file_corrupt', `${modelFileLabel(folder, file)} ${what}.`);
}
