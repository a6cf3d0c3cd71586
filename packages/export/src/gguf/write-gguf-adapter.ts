import { ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { ofExpert, type PeftAdapter } from '@lorasmith/peft-files';
import { type TensorConversion, TensorFault } from '@lorasmith/weight-files';
import { planMerge } from '../merging/plan-merge.js';
import { architectureMetadata } from './architecture-metadata.js';
import { type GgufTensorSource, type GgufType, type MetadataValue, tensorOfFault, writeGgufFile } from './gguf-file.js';
import { type GgufDescription, generalMetadata, inexpressible } from './metadata-setting.js';
import { planTensors, rowCount } from './tensor-names.js';
import { typeOfRows } from './write-gguf-model.js';

export interface WriteGgufAdapterOptions {
  model: ModelFolder;
  adapter: PeftAdapter;
  /** The new file. */
  path: string;
  type: GgufType;
  description: GgufDescription;
}

/**
 * Writes an adapter as a GGUF file that llama.cpp applies to its base model in any type, as convert_lora_to_gguf.py does.
 *
 * @returns sha256 and bytes
 * @throws ProductError model_not_supported, naming what llama.cpp cannot express; invalid_adapter; merge_not_finite
 */
export async function writeGgufAdapter(options: WriteGgufAdapterOptions): Promise<{ bytes: number; sha256: string }> {
  const { model, adapter, path, type, description } = options;
  const { architecture } = model;
  if (architecture.kind !== 'decoder') throw inexpressible(model.name, 'it is not a language model');
  const { architecture: name } = architectureMetadata(architecture, model.name);
  // Also checks that the adapter fits the model.
  if (planMerge(model, adapter).unties) {
    throw notApplied(model, 'the output head, which is the embedding of the base model');
  }
  const metadata = new Map<string, MetadataValue>([
    ...generalMetadata(name, 'adapter', description),
    ['adapter.type', { type: 'string', value: 'lora' }],
    ['adapter.lora.alpha', { type: 'float32', value: commonAlpha(adapter) }],
  ]);
  const tensors: GgufTensorSource[] = [];
  for (const plan of planTensors(architecture, (tensor) => model.tensors.has(tensor))) {
    const module = plan.module === null ? undefined : adapter.modules.get(plan.module);
    if (module === undefined) continue;
    if (plan.withoutAdapter) throw notApplied(model, plan.module!);
    // A and B are of the layer and not of its weight, so they are never transposed.
    const { rowOrder, columnOrder, headRows } = plan;
    const rowOfEach = plan.experts?.rowOfEach;
    const { experts } = module;
    const each = experts === undefined ? [module] : Array.from({ length: experts }, (_, i) => ofExpert(module, i));
    const ofA = each.map(({ a, rank, inFeatures }) => matrix(a, [rank, inFeatures], { columnOrder }, type));
    const ofB = each.map(({ b, rank, outFeatures }) =>
      matrix(b, [outFeatures, rank], { rowOrder, rowOfEach, headRows }, type),
    );
    tensors.push(stacked(`${plan.name}.lora_a`, ofA, experts), stacked(`${plan.name}.lora_b`, ofB, experts));
  }
  return await writeGgufFile({ path, metadata, tensors }).catch((error: unknown) => {
    if (!(error instanceof TensorFault)) throw error;
    const { tensor } = tensorOfFault(tensors, error.index);
    const message = `Writing ${tensor.name} as ${tensor.type} gives numbers that are not finite. Choose another type.`;
    throw new ProductError('merge_not_finite', message);
  });
}

/** The error for an adapter that acts where llama.cpp applies none, or applies it otherwise. */
function notApplied({ name }: ModelFolder, part: string): ProductError {
  const what = `the adapter acts on ${part}; llama.cpp does not apply it there as the model does. Take the merged model`;
  return inexpressible(name, what);
}

/** llama.cpp has one alpha for all layers, and the rank of each. */
function commonAlpha({ modules }: PeftAdapter): number {
  const alphas = new Set([...modules.values()].map(({ scale, rank }) => scale * rank));
  const [alpha] = alphas;
  if (alphas.size === 1) return alpha!;
  throw new ProductError('invalid_adapter', 'The layers of the adapter have several alphas; GGUF has one for all.');
}

/** A matrix, or those of all experts as one tensor. */
function stacked(
  name: string,
  matrices: readonly Omit<GgufTensorSource, 'name'>[],
  experts: number | undefined,
): GgufTensorSource {
  const { type, shape } = matrices[0]!;
  return {
    name,
    type,
    shape: experts === undefined ? shape : [experts, ...shape],
    parts: matrices.flatMap(({ parts }) => parts),
  };
}

function matrix(
  values: Float32Array,
  shape: [number, number],
  order: Pick<TensorConversion, 'rowOrder' | 'rowOfEach' | 'columnOrder' | 'headRows'>,
  wanted: GgufType,
): Omit<GgufTensorSource, 'name'> {
  const type = typeOfRows(wanted, shape[1]);
  const content = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const { rowOrder, rowOfEach } = order;
  const rows = rowOfEach ? shape[0] / rowOfEach.of : rowCount(rowOrder, shape[0]);
  return {
    type,
    shape: [rows, shape[1]],
    parts: [{ content, conversion: { from: 'F32', to: type, shape, ...order } }],
  };
}
