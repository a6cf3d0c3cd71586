import { chmod, copyFile, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { equalPart, type ModelFolder, type ModelWeights, openModelWeights } from '@lorasmith/model-folder';
import type { PeftAdapter } from '@lorasmith/peft-files';
import {
  SafetensorsError,
  type StoredTensor,
  safetensorsHeader,
  type TensorEntry,
  TensorFault,
  writeMerged,
} from '@lorasmith/weight-files';
import { type MergedTensor, mergedEntry, planMerge, storedParts } from './plan-merge.js';

/**
 * The files of a Hugging Face folder that are copied with the weights: settings, tokenizer, chat template, the settings for
 * images and sound of a composite, and licence. Other files, such as code or weights in other formats, are not copied.
 */
const COMPANION_FILES = [
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json$/,
  /^(processor_config|(video_)?preprocessor_config)\.json$/,
  /^(tokenizer\.model|vocab\.txt|merges\.txt|chat_template\.jinja)$/,
  /^(licen[cs]e|notice|use_policy)(\.(txt|md))?$/i,
];

export interface MergeOptions {
  model: ModelFolder;
  adapter: PeftAdapter;
  /** An empty folder that no other process reads yet. */
  outputFolder: string;
  /** Larger weights are split into several files with an index. @defaultValue 5 GB, as in Hugging Face's libraries */
  maxShardBytes?: number;
  /** Called about twice a second and after each file, with the bytes written so far and the total bytes of the weights. */
  onProgress?(doneBytes: number, totalBytes: number): void;
  /** Stops within a megabyte. */
  signal?: AbortSignal;
}

/** A weight file of a merged model. */
export interface WeightFileDigest {
  name: string;
  bytes: number;
  /** Hexadecimal. */
  sha256: string;
}

/**
 * Merges the adapter into the base model, `W + scale · B A`, and writes a complete Hugging Face folder. It computes in float32
 * and rounds once: every tensor keeps its dtype. Quantized weights, in 4 or 8 bits, are decoded to bfloat16 first. Tied embeddings stay tied, unless
 * the adapter acts on the head: see {@link planMerge}. Some megabytes of the weights are in memory.
 *
 * @returns its weight files
 * @throws ProductError invalid_adapter when the adapter does not fit the model; merge_not_finite; model_file_corrupt; the
 * signal's reason when it is aborted. The output folder is then incomplete: discard it.
 */
export async function mergeModel(options: MergeOptions): Promise<WeightFileDigest[]> {
  const { model, adapter, outputFolder, maxShardBytes = 5e9, signal } = options;
  const { tensors, unties } = planMerge(model, adapter);
  const sizes = [...tensors].map(([name, { source }]) => ({
    name,
    bytes: mergedEntry(model, source).byteLength,
  }));
  const totalBytes = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
  const shards = planShards(sizes, maxShardBytes);
  const files: WeightFileDigest[] = [];
  let doneBytes = 0;
  const weights = await openModelWeights(model);
  try {
    for (const shard of shards) {
      const onProgress = (bytes: number) => options.onProgress?.(doneBytes + bytes, totalBytes);
      files.push(await writeShard(shard, { model, weights, planned: tensors, outputFolder, onProgress, signal }));
      doneBytes += shard.bytes;
    }
  } finally {
    await weights.close();
  }
  if (shards.length > 1) {
    const index = `${JSON.stringify(shardIndex(shards, totalBytes), null, 2)}\n`;
    await writeFile(join(outputFolder, 'model.safetensors.index.json'), index, { flush: true });
  }
  await copyCompanions(model.path, outputFolder);
  const isUntied = model.untiedByFiles || unties;
  if (isUntied || model.quantized.size > 0) await changeConfig(outputFolder, { isUntied });
  return files;
}

interface ShardOptions {
  model: ModelFolder;
  weights: ModelWeights;
  planned: ReadonlyMap<string, MergedTensor>;
  outputFolder: string;
  onProgress: (doneBytes: number) => void;
  signal: AbortSignal | undefined;
}

async function writeShard(shard: PlannedShard, options: ShardOptions): Promise<WeightFileDigest> {
  const { model, weights, planned, outputFolder, onProgress, signal } = options;
  const { header, entries, totalBytes } = safetensorsHeader(
    shard.tensors.map((name) => ({ ...mergedEntry(model, planned.get(name)!.source), name })),
    { format: 'pt' },
  );
  const parts = entries.flatMap((entry) => {
    const { source, updates } = planned.get(entry.name)!;
    return updatedParts(storedParts(model, weights, source), updates).map((part) => ({ entry, part }));
  });
  const tensors = parts.map(({ part }) => part);
  const path = join(outputFolder, shard.file);
  const handle = await open(path, 'wx');
  try {
    const sha256 = await writeMerged({ output: handle.fd, header, tensors, onProgress, ...(signal && { signal }) });
    await handle.sync();
    return { name: shard.file, bytes: totalBytes, sha256 };
  } catch (error) {
    await rm(path, { force: true });
    if (!(error instanceof TensorFault)) throw error;
    const { entry } = parts[error.index]!;
    throw productError(error, entry, planned.get(entry.name)!.source, weights);
  } finally {
    await handle.close();
  }
}

/** The parts of a tensor with their updates; one part is divided into as many as there are. */
function updatedParts(stored: StoredTensor[], updates: MergedTensor['updates']): StoredTensor[] {
  if (updates === undefined) return stored;
  return updates.map((update, index) => {
    if (stored.length === updates.length) return { ...stored[index]!, update };
    const [whole] = stored as [StoredTensor];
    return { ...equalPart(whole, index, updates.length), update };
  });
}

function productError(
  { fault, cause }: TensorFault,
  entry: TensorEntry,
  source: string,
  weights: ModelWeights,
): ProductError {
  if (fault !== 'not-finite') {
    const truncated = new SafetensorsError('file_truncated', 'the file ended while it was read');
    return weights.readFailure(source, fault === 'truncated' ? truncated : cause);
  }
  const message = `Merging ${entry.name} gives numbers that are not finite in ${entry.dtype}; the adapter or the base model is damaged, or its scale too large.`;
  return new ProductError('merge_not_finite', message);
}

/**
 * Removes `quantization_config`. Where the head is untied, it sets `tie_word_embeddings` to false, also that of a composite's
 * language model, so that all readers use the separate head.
 */
async function changeConfig(folder: string, { isUntied }: { isUntied: boolean }): Promise<void> {
  const path = join(folder, 'config.json');
  const config = parseWithNumbers(await readFile(path, 'utf8')) as Record<string, unknown>;
  const untied = isUntied ? { tie_word_embeddings: false } : {};
  const { text_config: text, quantization_config: _, ...others } = config;
  const ofText = typeof text === 'object' && text !== null ? { text_config: { ...text, ...untied } } : {};
  await writeFile(path, `${textWithNumbers({ ...others, ...ofText, ...untied })}\n`, { flush: true });
}

// Numbers stay as they are written: transformers wants 7.0 where a field is a float, and JSON.stringify makes 7 of it. So they pass
// as marked strings.
const NUMBER = String.raw`-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?`;
const STRING_OR_NUMBER = new RegExp(String.raw`"[^"\\]*(?:\\.[^"\\]*)*"|${NUMBER}`, 'g');
const MARKED_NUMBER = new RegExp(String.raw`"\\u0000(${NUMBER})"`, 'g');

function parseWithNumbers(text: string): unknown {
  return JSON.parse(text.replace(STRING_OR_NUMBER, (token) => (token.startsWith('"') ? token : `"\\u0000${token}"`)));
}

function textWithNumbers(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(MARKED_NUMBER, '$1');
}

async function copyCompanions(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) {
    if (!COMPANION_FILES.some((pattern) => pattern.test(name))) continue;
    await copyFile(join(from, name), join(to, name));
    // Files that may not be written, as of a models folder that is protected, would stay so.
    await chmod(join(to, name), 0o644);
  }
}

/** One weight file of a merged model. */
export interface PlannedShard {
  file: string;
  tensors: string[];
  /** Bytes of the tensors. */
  bytes: number;
}

/**
 * Distributes tensors to weight files as Hugging Face does: a single `model.safetensors` if they fit, else
 * `model-00001-of-0000N.safetensors` etc., filled in order. A tensor larger than the limit has its own file.
 *
 * @param maxShardBytes the limit of tensor data per file
 */
export function planShards(tensors: readonly { name: string; bytes: number }[], maxShardBytes: number): PlannedShard[] {
  const groups: { tensors: string[]; bytes: number }[] = [{ tensors: [], bytes: 0 }];
  for (const { name, bytes } of tensors) {
    const last = groups.at(-1)!;
    if (last.bytes > 0 && last.bytes + bytes > maxShardBytes) {
      groups.push({ tensors: [name], bytes });
    } else {
      last.tensors.push(name);
      last.bytes += bytes;
    }
  }
  const number = (value: number) => String(value).padStart(5, '0');
  return groups.map((group, index) => ({
    file:
      groups.length === 1 ? 'model.safetensors' : `model-${number(index + 1)}-of-${number(groups.length)}.safetensors`,
    ...group,
  }));
}

/** The content of `model.safetensors.index.json`. */
export function shardIndex(shards: readonly PlannedShard[], totalBytes: number): unknown {
  const weightMap = shards.flatMap(({ file, tensors }) => tensors.map((name) => [name, file] as const));
  return {
    metadata: { total_size: totalBytes },
    weight_map: Object.fromEntries(weightMap.sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
