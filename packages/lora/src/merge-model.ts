import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { hasTiedHead, type ModelFolder, openModelWeights } from '@lorasmith/model-folder';
import type { PeftAdapter, PeftModule } from '@lorasmith/peft-files';
import { type FloatDtype, type TensorToWrite, writeSafetensors } from '@lorasmith/safetensors';
import { mergeWeight } from './merge-weight.js';
import { planShards, shardIndex } from './merged-shards.js';

/**
 * The files of a Hugging Face folder that are copied with the weights: settings, tokenizer, chat template and licence. Other
 * files, such as code or weights in other formats, are not copied.
 */
const COMPANION_FILES = [
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json$/,
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
  /** Called after each tensor, with the bytes written so far and the total bytes of the weights. */
  onProgress?(doneBytes: number, totalBytes: number): void;
  /** Checked before each tensor. */
  signal?: AbortSignal;
}

/**
 * Merges the adapter into the base model, `W + scale · B A`, and writes a complete Hugging Face folder. Every tensor keeps its
 * dtype, and tied embeddings stay tied. Only one tensor at a time is in memory.
 *
 * @throws ProductError invalid_adapter when the adapter does not fit the model; merge_not_finite; model_file_corrupt; the
 * signal's reason when it is aborted. The output folder is then incomplete: discard it.
 */
export async function mergeModel(options: MergeOptions): Promise<void> {
  const { model, adapter, outputFolder, maxShardBytes = 5e9, signal } = options;
  const adapted = adaptedTensors(model, adapter);
  const sizes = [...model.tensors].map(([name, { entry }]) => ({ name, bytes: entry.byteLength }));
  const totalBytes = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
  const shards = planShards(sizes, maxShardBytes);
  let doneBytes = 0;
  const weights = await openModelWeights(model);
  try {
    const mergedTensor = async (name: string): Promise<Uint8Array> => {
      signal?.throwIfAborted();
      const bytes = await weights.read(name);
      const layer = adapted.get(name);
      if (layer !== undefined) {
        // readModelFolder has checked that every linear layer has a float dtype.
        const { dtype, shape } = weights.entry(name);
        const weight = { name, transposed: layer.transposed, dtype: dtype as FloatDtype, shape, bytes };
        mergeWeight(weight, layer.module);
      }
      doneBytes += bytes.byteLength;
      options.onProgress?.(doneBytes, totalBytes);
      return bytes;
    };
    for (const shard of shards) {
      const tensors = shard.tensors.map((name): TensorToWrite => {
        const { dtype, shape } = weights.entry(name);
        return { name, dtype, shape, data: () => mergedTensor(name) };
      });
      await writeSafetensors(join(outputFolder, shard.file), tensors, { format: 'pt' });
    }
  } finally {
    await weights.close();
  }
  if (shards.length > 1) {
    const index = `${JSON.stringify(shardIndex(shards, totalBytes), null, 2)}\n`;
    await writeFile(join(outputFolder, 'model.safetensors.index.json'), index, { flush: true });
  }
  await copyCompanions(model.path, outputFolder);
  if (model.untiedByFiles) await setUntied(outputFolder);
}

/** The module to merge into each adapted tensor, by the tensor's name. */
function adaptedTensors(
  { name, architecture, linears, headModule }: ModelFolder,
  { modules }: PeftAdapter,
): Map<string, { module: PeftModule; transposed: boolean }> {
  // A tied head is also the embedding. Merging into it would change the embedding, which the adapter does not adapt.
  const isTied = hasTiedHead(architecture);
  const layerOf = (module: string) => (isTied && module === headModule?.name ? undefined : linears.get(module));
  const unknown = [...modules.keys()].filter((module) => layerOf(module) === undefined);
  if (unknown.length > 0) {
    const listed =
      unknown.length > 5 ? `${unknown.slice(0, 5).join(', ')} and ${unknown.length - 5} more` : unknown.join(', ');
    const message = `The adapter does not fit the base model ${name}, which has no layer for ${listed}.`;
    throw new ProductError('invalid_adapter', message);
  }
  return new Map(
    [...modules].map(([path, module]) => {
      const { weight, transposed } = layerOf(path)!;
      return [weight, { module, transposed }];
    }),
  );
}

/** Sets `tie_word_embeddings` to false, so that all readers use the separate head of the weights. */
async function setUntied(folder: string): Promise<void> {
  const path = join(folder, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  await writeFile(path, `${JSON.stringify({ ...config, tie_word_embeddings: false }, null, 2)}\n`, { flush: true });
}

async function copyCompanions(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) {
    if (COMPANION_FILES.some((pattern) => pattern.test(name))) await copyFile(join(from, name), join(to, name));
  }
}
