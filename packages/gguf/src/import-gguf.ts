import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MODEL_NAME_PATTERN, ProductError } from '@lorasmith/contracts';
import { isMissing, loadTokenizer, type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { float32ToBfloat16, writeSafetensors } from '@lorasmith/safetensors';
import { bpeTokenizerFiles } from './bpe-tokenizer.js';
import { type GgufFile, openGguf } from './gguf-file.js';
import { GgufMetadata } from './gguf-metadata.js';
import { generationConfigJson, type LlamaSettings, llamaConfigJson, readLlamaSettings } from './llama-config.js';
import { planLlamaTensors, ROPE_FACTORS, type TensorPlan, unpermuteRows } from './llama-tensors.js';
import { inferLlama3Scaling } from './rope-factors.js';

/** The number of weights that are dequantised at a time; a multiple of every block size. */
const CHUNK_WEIGHTS = 2 ** 16;

/** Starts with a dot, so that it is not listed as a model. */
const TEMPORARY_PREFIX = '.import-';

/** The age at which a later import removes the temporary folder of a crashed one. */
const ABANDONED_AFTER_MS = 24 * 60 * 60 * 1000;

export interface ImportRequest {
  /** Path of the GGUF file. */
  file: string;
  /** Name of the new base model; must not exist. */
  name: string;
  modelsDir: string;
  /** Called after each tensor. */
  onProgress?: (progress: { tensor: string; done: number; total: number }) => void;
  /** Stops the import before the next tensor; no files remain. */
  signal?: AbortSignal;
}

/**
 * Converts a GGUF file with the architecture llama to a base-model folder: config, tokenizer, chat template, and weights that
 * are dequantised in float32 and rounded once to bfloat16. The folder is created atomically.
 *
 * @throws ProductError conflict (the name is in use), invalid_request (invalid name), model_file_missing, model_file_corrupt,
 *   model_not_supported (naming the key, tensor or type)
 */
export async function importGguf(request: ImportRequest): Promise<ModelFolder> {
  const { file, name, modelsDir } = request;
  if (!new RegExp(MODEL_NAME_PATTERN).test(name)) {
    const message = `${JSON.stringify(name.slice(0, 100))} is not a valid model name. Use letters, digits, ".", "_" and "-".`;
    throw new ProductError('invalid_request', message, { param: 'name' });
  }
  const target = join(modelsDir, name);
  await requireFree(target, name);
  const gguf = await openGguf(file);
  try {
    await removeAbandoned(modelsDir);
    const temporary = join(modelsDir, `${TEMPORARY_PREFIX}${randomBytes(6).toString('hex')}`);
    // The folder has the model's name, which appears in error messages.
    const folder = join(temporary, name);
    try {
      await mkdir(folder, { recursive: true });
      await writeModel(gguf, folder, request);
      // Check that a job can use the model before it is published.
      await readModelFolder(folder);
      await loadTokenizer(folder);
      await moveInto(folder, target, name);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  } finally {
    await gguf.close();
  }
  return await readModelFolder(target);
}

async function writeModel(gguf: GgufFile, folder: string, request: ImportRequest): Promise<void> {
  const metadata = new GgufMetadata(gguf.metadata, gguf.name);
  const settings = readLlamaSettings(metadata, gguf.tensors);
  // Settings, names and tokenizer are checked before any weight is written; shapes are checked at the end.
  const plans = planLlamaTensors(gguf.tensors, settings, gguf.name);
  const scaling = await readRopeScaling(gguf, settings);
  const { tokenizer, tokenizerConfig, chatTemplate } = bpeTokenizerFiles(metadata);
  await writeText(folder, 'config.json', asJson(llamaConfigJson(settings, metadata, scaling)));
  await writeText(folder, 'generation_config.json', asJson(generationConfigJson(settings, metadata)));
  await writeText(folder, 'tokenizer.json', asJson(tokenizer));
  await writeText(folder, 'tokenizer_config.json', asJson(tokenizerConfig));
  if (chatTemplate !== null) await writeText(folder, 'chat_template.jinja', chatTemplate);

  let done = 0;
  const tensors = plans.map((plan) => ({
    name: plan.name,
    dtype: 'BF16' as const,
    shape: plan.source.shape,
    data: async () => {
      request.signal?.throwIfAborted();
      const bytes = await convertTensor(gguf, plan, settings);
      done++;
      request.onProgress?.({ tensor: plan.name, done, total: plans.length });
      return bytes;
    },
  }));
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' });
}

/** Converts a tensor to bfloat16, with its rows in the order of transformers. */
async function convertTensor(gguf: GgufFile, plan: TensorPlan, settings: LlamaSettings): Promise<Uint8Array> {
  const { source, permutedHeads } = plan;
  const { type } = source;
  if (permutedHeads !== null && source.shape[0] !== permutedHeads * settings.headDim) {
    const heads = `${permutedHeads} heads of size ${settings.headDim}`;
    throw new ProductError(
      'model_file_corrupt',
      `${gguf.name}: the rows of tensor ${source.name} do not match ${heads}.`,
    );
  }
  const stored = await gguf.read(source);
  const weights = (stored.byteLength / type.blockBytes) * type.blockWeights;
  const result = new Uint8Array(weights * 2);
  const numbers = new Float32Array(Math.min(CHUNK_WEIGHTS, weights));
  for (let start = 0; start < weights; start += CHUNK_WEIGHTS) {
    const chunk = numbers.subarray(0, Math.min(CHUNK_WEIGHTS, weights - start));
    const firstByte = (start / type.blockWeights) * type.blockBytes;
    const chunkBytes = (chunk.length / type.blockWeights) * type.blockBytes;
    type.dequantize(stored.subarray(firstByte, firstByte + chunkBytes), chunk);
    result.set(float32ToBfloat16(chunk), start * 2);
  }
  return permutedHeads === null ? result : unpermuteRows(result, permutedHeads, settings.headDim);
}

async function readRopeScaling(gguf: GgufFile, { ropeTheta, headDim }: LlamaSettings) {
  const tensor = gguf.tensors.get(ROPE_FACTORS);
  if (!tensor) return null;
  const weights = tensor.shape.reduce((product, size) => product * size, 1);
  if (weights === headDim / 2) {
    const factors = new Float32Array(weights);
    tensor.type.dequantize(await gguf.read(tensor), factors);
    const scaling = inferLlama3Scaling(factors, ropeTheta);
    if (scaling) return scaling;
  }
  const message = `${gguf.name}: the tensor ${ROPE_FACTORS} contains factors that differ from Llama 3's, which is not supported.`;
  throw new ProductError('model_not_supported', message);
}

async function requireFree(target: string, name: string): Promise<void> {
  try {
    await stat(target);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  throw taken(name);
}

function taken(name: string): ProductError {
  const message = `A model named ${name} already exists. Choose another name, or remove the folder first.`;
  return new ProductError('conflict', message, { param: 'name' });
}

async function moveInto(temporary: string, target: string, name: string): Promise<void> {
  try {
    await rename(temporary, target);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') throw taken(name);
    throw error;
  }
}

async function removeAbandoned(modelsDir: string): Promise<void> {
  const names = await readdir(modelsDir).catch(() => []);
  for (const name of names.filter((candidate) => candidate.startsWith(TEMPORARY_PREFIX))) {
    const path = join(modelsDir, name);
    const status = await stat(path).catch(() => null);
    if (status && Date.now() - status.mtimeMs > ABANDONED_AFTER_MS) await rm(path, { recursive: true, force: true });
  }
}

function asJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Writes and syncs a file. Without the sync, the renamed folder could contain empty files after a power failure. */
async function writeText(folder: string, name: string, text: string): Promise<void> {
  const path = join(folder, name);
  await writeFile(path, text, { flag: 'wx' });
  const handle = await open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
