import { ProductError } from '@lorasmith/contracts';
import { type Architecture, type ModelFolder, partsOf, tensorName, withOwnHead } from '@lorasmith/model-folder';
import type { PeftAdapter, PeftModule } from '@lorasmith/peft-files';
import type { FloatDtype, TensorEntry } from '@lorasmith/safetensors';
import type { WeightUpdate } from '@lorasmith/weight-io';
import { mergedEntry } from './merged-source.js';

/** A tensor of a merged model. */
export interface MergedTensor {
  /** Name of the tensor of the base model that it is made of. */
  source: string;
  /** The update to add; undefined: the weight is copied. */
  update?: WeightUpdate;
}

/** The parts of a merged model. */
export interface MergePlan {
  /** The base's, with a head of its own if the merge unties it. */
  architecture: Architecture;
  /** The tensors by name, those of the base in their order. */
  tensors: ReadonlyMap<string, MergedTensor>;
  /** Whether the merge unties the head from the embedding. */
  unties: boolean;
}

/**
 * The tensors of the model with the adapter merged into it.
 * @throws ProductError invalid_adapter when the adapter does not fit the model
 */
export function planMerge(model: ModelFolder, { modules }: PeftAdapter): MergePlan {
  const { name, linears, headModule } = model;
  const unknown = [...modules.keys()].filter((module) => !linears.has(module));
  if (unknown.length > 0) {
    const listed =
      unknown.length > 5 ? `${unknown.slice(0, 5).join(', ')} and ${unknown.length - 5} more` : unknown.join(', ');
    const message = `The adapter does not fit the base model ${name}, which has no layer for ${listed}.`;
    throw new ProductError('invalid_adapter', message);
  }
  const layout = mergedLayout(model, modules);
  const tensors = new Map<string, MergedTensor>([...layout.sources].map(([tensor, source]) => [tensor, { source }]));
  for (const [path, module] of modules) {
    const { weight, transposed } = linears.get(path)!;
    const tensor = path === headModule?.name ? (layout.untiedHead ?? weight) : weight;
    const { source } = tensors.get(tensor)!;
    tensors.set(tensor, { source, update: updateOf(mergedEntry(model, source), module, transposed) });
  }
  return { architecture: layout.architecture, tensors, unties: layout.untiedHead !== null };
}

/** The tensors of a merged model, without their numbers. */
export interface MergedLayout {
  /** The architecture, as in {@link MergePlan}. */
  architecture: Architecture;
  /** The tensor of the base model that each one is made of, by its name. */
  sources: ReadonlyMap<string, string>;
  /** The name of the head's tensor if the merge unties it. */
  untiedHead: string | null;
}

/**
 * The tensors of a base model after a merge into these modules. An adapter of a head that is tied to the embedding does not change
 * the embedding, so the merged model has a head of its own.
 */
export function mergedLayout(
  { architecture, headModule, linears, tensors, quantized }: ModelFolder,
  modules: { has(module: string): boolean },
): MergedLayout {
  const parts = new Set(
    [...quantized].flatMap(([name, weight]) => partsOf(name, weight).filter((part) => part !== name)),
  );
  const names = [...tensors.keys()].filter((tensor) => !parts.has(tensor));
  const sources = new Map(names.map((tensor) => [tensor, tensor]));
  if (architecture.kind !== 'decoder' || !architecture.tiedHead || !modules.has(headModule!.name)) {
    return { architecture, sources, untiedHead: null };
  }
  const untied = withOwnHead(architecture);
  const { embedding, head } = untied.names;
  const [embeddingTensor, untiedHead] = [embedding, head].map((path) => tensorName(untied.names, `${path}.weight`)) as [
    string,
    string,
  ];
  const shared = linears.get(head)!.weight;
  for (const tensor of [embeddingTensor, untiedHead]) if (!sources.has(tensor)) sources.set(tensor, shared);
  return { architecture: untied, sources, untiedHead };
}

/** @throws ProductError invalid_adapter when the shapes do not match */
function updateOf(
  { name, dtype, shape }: Pick<TensorEntry, 'name' | 'dtype' | 'shape'>,
  module: PeftModule,
  transposed: boolean,
): WeightUpdate {
  const { a, b, rank, scale, inFeatures, outFeatures } = module;
  const [height, width] = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  if (shape.length !== 2 || shape[0] !== height || shape[1] !== width) {
    const message = `The adapter is for a layer of [${height}, ${width}], but ${name} of the base model is [${shape.join(', ')}].`;
    throw new ProductError('invalid_adapter', message);
  }
  // readModelFolder has checked that every linear layer has a float dtype, or is quantized.
  return { dtype: dtype as FloatDtype, shape: [height, width], transposed, a, b, rank, scale };
}
