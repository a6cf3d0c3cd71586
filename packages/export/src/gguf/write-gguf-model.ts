import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import {
  equalPart,
  type ModelFolder,
  type ModelWeights,
  openModelWeights,
  type QuantizedWeight,
} from '@lorasmith/model-folder';
import type { PeftAdapter } from '@lorasmith/peft-files';
import {
  type FloatDtype,
  type IndexRange,
  SafetensorsError,
  type StoredTensor,
  type TensorConversion,
  TensorFault,
  toFloat32,
  type WeightUpdate,
} from '@lorasmith/weight-files';
import { type MergedTensor, mergedEntry, mergedLayout, planMerge, storedParts } from '../merging/plan-merge.js';
import { architectureMetadata } from './architecture-metadata.js';
import { type ExpertMatrix, isRouter, type StackedExperts } from './experts.js';
import {
  BLOCK_NUMBERS,
  type GgufTensorSource,
  type GgufType,
  type MetadataValue,
  tensorBytes,
  tensorOfFault,
  type WrittenType,
  writeGgufFile,
} from './gguf-file.js';
import type { RowsOfHeads } from './layer-part.js';
import { type GgufDescription, generalMetadata, inexpressible } from './metadata-setting.js';
import { type GgufTensorPlan, planTensors, shapesOf } from './tensor-names.js';
import { safeName, tokenizerMetadata } from './tokenizer-metadata.js';

/** `general.file_type` (`enum llama_ftype`). */
const FILE_TYPES: Readonly<Record<WrittenType, number>> = { F32: 0, F16: 1, BF16: 32, Q8_0: 7, MXFP4: 38 };

/** Name, shape, type, offset and padding of a tensor take less. */
const MAX_TENSOR_ENTRY_BYTES = 512;
/** Metadata other than the tokenizer. */
const MAX_SETTINGS_BYTES = 2 ** 16;

export interface WriteGgufModelOptions {
  model: ModelFolder;
  adapter: PeftAdapter;
  /** The new file. */
  path: string;
  /** The type of the matrices; vectors are F32, as llama.cpp wants them. */
  type: GgufType;
  description: GgufDescription;
  onProgress?(doneBytes: number, totalBytes: number): void;
  signal?: AbortSignal | undefined;
}

/**
 * Merges the adapter into the base model and writes it as a GGUF file, with its tokenizer and chat template. The numbers are those
 * of the merged model, rounded once more to the type of the file. Some megabytes of the weights are in memory.
 *
 * @returns sha256 and bytes
 * @throws ProductError model_not_supported, naming what llama.cpp cannot express; invalid_adapter; merge_not_finite;
 * model_file_corrupt; the signal's reason
 */
export async function writeGgufModel(options: WriteGgufModelOptions): Promise<{ bytes: number; sha256: string }> {
  const { model, adapter, path, type, description, signal } = options;
  const { architecture, tensors: merged } = planMerge(model, adapter);
  if (architecture.kind !== 'decoder') throw inexpressible(model.name, 'it is not a language model');
  const { architecture: name, settings, ropeTensors } = architectureMetadata(architecture, model.name);
  const general = generalMetadata(name, 'model', { ...description, name: await safeName(description.name, model) });
  const ofTokenizer = await tokenizerMetadata(model, architecture);
  const plans = planTensors(architecture, (tensor) => merged.has(tensor));
  const weights = await openModelWeights(model);
  try {
    const tensors = ropeTensors.map(([tensor, values]) => ofMemory(tensor, values));
    for (const plan of plans) {
      const opened = { model, weights };
      tensors.push(plan.decays ? await ofDecays(plan, opened) : ofWeights(plan, opened, merged, type));
    }
    const metadata = new Map<string, MetadataValue>([
      ...general,
      ...settings.map(([key, value]): [string, MetadataValue] => [`${name}.${key}`, value]),
      ['general.file_type', { type: 'uint32', value: FILE_TYPES[typeOfFile(tensors, type)] }],
      ...ofTokenizer,
    ]);
    const onProgress = (done: number, total: number) => options.onProgress?.(done, total);
    return await writeGgufFile({ path, metadata, tensors, onProgress, signal }).catch((error: unknown) => {
      throw error instanceof TensorFault ? explained(error, tensors, plans, merged, weights) : error;
    });
  } finally {
    await weights.close();
  }
}

/**
 * The most bytes that the file of a merged model has: its weights exactly, its tokenizer at most.
 * @param modules those that the adapter adapts
 */
export async function maxGgufBytes(
  model: ModelFolder,
  modules: { has(module: string): boolean },
  wanted: GgufType,
): Promise<number> {
  const { path } = model;
  const { architecture, sources } = mergedLayout(model, modules);
  let bytes = MAX_SETTINGS_BYTES;
  if (architecture.kind === 'decoder') {
    for (const plan of planTensors(architecture, (tensor) => sources.has(tensor))) {
      const { experts } = plan;
      const source = sources.get(plan.source)!;
      bytes += MAX_TENSOR_ENTRY_BYTES;
      if (experts === null) {
        const shape = shapesOf(plan, mergedEntry(model, source).shape).written;
        bytes += tensorBytes({ shape, type: typeOfTensor(plan.name, shape, wanted) });
        continue;
      }
      const { shape } = experts;
      const isAdapted = modules.has(experts.parameter);
      bytes += tensorBytes({
        shape,
        type: typeOfExperts(plan.name, shape, model.quantized.get(source), isAdapted, wanted),
      });
    }
  }
  for (const name of await readdir(path)) {
    if (/^(tokenizer|tokenizer_config)\.json$|\.jinja$/.test(name)) bytes += (await stat(join(path, name))).size;
  }
  return bytes;
}

/** Experts that stay in MXFP4 are most of the numbers, unless the others are smaller than floats, too. */
function typeOfFile(tensors: readonly GgufTensorSource[], wanted: GgufType): WrittenType {
  return wanted !== 'Q8_0' && tensors.some(({ type }) => type === 'MXFP4') ? 'MXFP4' : wanted;
}

function ofMemory(name: string, values: Float32Array): GgufTensorSource {
  const content = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, type: 'F32', shape: [values.length], parts: [{ content }] };
}

/** The decays of linear attention instead of their logarithms. */
async function ofDecays(
  { name, source, rowOrder }: GgufTensorPlan,
  { weights }: { weights: ModelWeights },
): Promise<GgufTensorSource> {
  const logs = toFloat32(await weights.read(source), weights.entry(source).dtype);
  const { parts, ...tensor } = ofMemory(
    name,
    logs.map((log) => -Math.exp(log)),
  );
  const conversion: TensorConversion = { from: 'F32', to: 'F32', shape: [logs.length, 1], rowOrder };
  return { ...tensor, parts: parts.map((part) => ({ ...part, conversion })) };
}

function ofWeights(
  plan: GgufTensorPlan,
  opened: { model: ModelFolder; weights: ModelWeights },
  merged: ReadonlyMap<string, MergedTensor>,
  wanted: GgufType,
): GgufTensorSource {
  if (plan.ofHeads !== null) return ofHeads(plan, plan.ofHeads, opened, merged, wanted);
  if (plan.experts !== null) return ofExperts(plan.name, plan.experts, opened, merged, wanted);
  const { model, weights } = opened;
  const { source, updates } = merged.get(plan.source)!;
  const { name, rowOrder, columnOrder, numberOfEach, transposed, headRows, added } = plan;
  const { dtype, shape } = mergedEntry(model, source);
  const { matrix, written } = shapesOf(plan, shape);
  const type = typeOfTensor(name, written, wanted);
  const order = { rowOrder, columnOrder, rowOfEach: numberOfEach, transposed, headRows };
  const conversion = { from: dtype as FloatDtype, to: type, shape: matrix, ...order, added };
  // Only tensors of experts have several.
  const [update] = updates ?? [];
  const ofUpdate = update && { update: transposed ? ofWritten(update) : update };
  const [stored] = storedParts(model, weights, source);
  const part = { ...stored!, ...ofUpdate, conversion };
  return { name, type, shape: written, parts: [part] };
}

/** Some rows of each head, one matrix behind the other. */
function ofHeads(
  plan: GgufTensorPlan,
  { heads, size, first, transposed }: RowsOfHeads,
  { model, weights }: { model: ModelFolder; weights: ModelWeights },
  merged: ReadonlyMap<string, MergedTensor>,
  wanted: GgufType,
): GgufTensorSource {
  const { source, updates } = merged.get(plan.source)!;
  if (model.quantized.has(source)) {
    const what = `${source} is quantized, and Lorasmith does not write rows of it. Take the merged model in Hugging Face layout`;
    throw inexpressible(model.name, what);
  }
  const { dtype, shape } = mergedEntry(model, source);
  const { matrix, written } = shapesOf(plan, shape);
  const [rows, width] = matrix;
  const type = typeOfTensor(plan.name, written, wanted);
  const conversion = { from: dtype as FloatDtype, to: type, shape: matrix, transposed };
  const [stored] = storedParts(model, weights, source) as [StoredTensor];
  const rowBytes = stored.bytes / shape[0]!;
  const [update] = updates ?? [];
  const parts = Array.from({ length: heads }, (_, head) => {
    const row = head * size + first;
    const part = { ...stored, offset: stored.offset + row * rowBytes, bytes: rows * rowBytes, conversion };
    if (update === undefined) return part;
    const b = update.b.subarray(row * update.rank, (row + rows) * update.rank);
    const own: WeightUpdate = { ...update, shape: transposed ? [width, rows] : [rows, width], transposed, b };
    return { ...part, update: own };
  });
  return { name: plan.name, type, shape: written, parts };
}

/** The matrices of all experts of a layer, one behind the other. */
function ofExperts(
  name: string,
  { shape, matrices, rowOfEach, transposed }: StackedExperts,
  { model, weights }: { model: ModelFolder; weights: ModelWeights },
  merged: ReadonlyMap<string, MergedTensor>,
  wanted: GgufType,
): GgufTensorSource {
  const [first] = matrices.map(({ source }) => merged.get(source)!);
  const type = typeOfExperts(name, shape, model.quantized.get(first!.source), first!.updates !== undefined, wanted);
  const parts = matrices.map((ofExpert) => {
    const { source, updates } = merged.get(ofExpert.source)!;
    const { dtype, shape: stored } = mergedEntry(model, source);
    const { index, count, shape: own, rowOrder } = matrixOf(ofExpert, stored, model.quantized.get(source));
    const parts = storedParts(model, weights, source);
    const part = parts.length === count ? parts[index]! : equalPart(parts[0]!, index, count);
    const conversion = { from: dtype as FloatDtype, to: type, shape: own, rowOrder, rowOfEach, transposed };
    const update = updates?.[index];
    return { ...part, ...(update && { update: transposed ? ofWritten(update) : update }), conversion };
  });
  return { name, type, shape, parts };
}

/**
 * The type of the weights of experts: those that are in MXFP4, and that no adapter changes, stay so.
 * @param weight - The way in which they are stored; undefined: as floats
 */
export function typeOfExperts(
  name: string,
  shape: readonly number[],
  weight: QuantizedWeight | undefined,
  isAdapted: boolean,
  wanted: GgufType,
): WrittenType {
  return (isAdapted ? null : weight?.ggufType) ?? typeOfTensor(name, shape, wanted);
}

/**
 * The matrix of a tensor that an expert's is, as it is stored.
 * @param stored shape of the tensor
 */
function matrixOf(
  { index, count, rowOrder }: ExpertMatrix,
  stored: readonly number[],
  weight: QuantizedWeight | undefined,
): Omit<ExpertMatrix, 'source'> & { shape: [rows: number, width: number] } {
  const all = weight?.matrices ?? count;
  const [rows, width] = [stored.at(-2)!, stored.at(-1)!];
  if (all === count) return { index, count, shape: [rows, width], rowOrder };
  // Gate and up of an expert are quantized each by itself.
  const ofOne = (rows * count) / all;
  const [{ first }] = rowOrder as [IndexRange];
  return { index: (index * all) / count + first / ofOne, count: all, shape: [ofOne, width], rowOrder: undefined };
}

/** Vectors are float32, and positions, convolutions, routers and biases of experts, as in llama.cpp's converter. */
export function typeOfTensor(name: string, shape: readonly number[], wanted: GgufType): GgufType {
  const isMatrix = name.endsWith('.weight');
  const isKept = !isMatrix || name === 'position_embd.weight' || name.endsWith('.ssm_conv1d.weight') || isRouter(name);
  return shape.length === 1 || isKept ? 'F32' : typeOfRows(wanted, shape.at(-1)!);
}

/** The type of rows: those that are no whole number of blocks are float16, as in llama.cpp's converter. */
export function typeOfRows(wanted: GgufType, width: number): GgufType {
  return width % BLOCK_NUMBERS[wanted] === 0 ? wanted : 'F16';
}

/** The update of a weight that is transposed before it is merged. */
function ofWritten({ shape: [rows, width], ...update }: WeightUpdate): WeightUpdate {
  return { ...update, shape: [width, rows], transposed: false };
}

function explained(
  { index, fault, cause }: TensorFault,
  tensors: readonly GgufTensorSource[],
  plans: readonly GgufTensorPlan[],
  merged: ReadonlyMap<string, MergedTensor>,
  weights: ModelWeights,
): ProductError {
  const { tensor, part } = tensorOfFault(tensors, index);
  const plan = plans.find(({ name }) => name === tensor.name)!;
  const source = plan.experts === null ? plan.source : plan.experts.matrices[part]!.source;
  if (fault === 'not-finite') {
    const hint = tensor.type === 'F16' ? ' Float16 ends at 65,504: choose another type.' : '';
    const message = `Writing ${source} as ${tensor.type} gives numbers that are not finite.${hint}`;
    return new ProductError('merge_not_finite', message);
  }
  const truncated = new SafetensorsError('file_truncated', 'the file ended while it was read');
  return weights.readFailure(merged.get(source)!.source, fault === 'truncated' ? truncated : cause);
}
