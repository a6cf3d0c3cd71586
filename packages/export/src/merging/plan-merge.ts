import { ProductError } from '@lorasmith/contracts';
import {
  type Architecture,
  type ExpertParameter,
  type ModelFolder,
  type ModelWeights,
  tensorName,
  withOwnHead,
} from '@lorasmith/model-folder';
import { ofExpert, type PeftAdapter, type PeftModule } from '@lorasmith/peft-files';
import type { FloatDtype, StoredTensor, TensorEntry, WeightUpdate } from '@lorasmith/weight-files';

/** A tensor of a merged model. */
export interface MergedTensor {
  /** Name of the tensor of the base model that it is made of. */
  source: string;
  /**
   * The updates to add to its parts, which are of one size and one behind the other: one for a linear layer, one for each expert of a
   * fused tensor. Undefined: the weight is copied.
   */
  updates?: readonly WeightUpdate[];
}

/** The parts of a merged model. */
export interface MergePlan {
  /** The base's, with a head of its own if the merge unties it. */
  architecture: Architecture;
  /** The tensors by name, those of the base in their order. */
  tensors: ReadonlyMap<string, MergedTensor>;
  /** True if the merge unties the head from the embedding. */
  unties: boolean;
}

/**
 * The tensors of the model with the adapter merged into it.
 * @throws ProductError invalid_adapter when the adapter does not fit the model
 */
export function planMerge(model: ModelFolder, { modules }: PeftAdapter): MergePlan {
  const { name, linears, expertParameters, headModule } = model;
  const unknown = [...modules.keys()].filter((module) => !linears.has(module) && !expertParameters.has(module));
  if (unknown.length > 0) {
    const listed =
      unknown.length > 5 ? `${unknown.slice(0, 5).join(', ')} and ${unknown.length - 5} more` : unknown.join(', ');
    const message = `The adapter does not fit the base model ${name}, which has no layer, and no parameter of experts, for ${listed}.`;
    throw new ProductError('invalid_adapter', message);
  }
  const layout = mergedLayout(model, modules);
  const tensors = new Map<string, MergedTensor>([...layout.sources].map(([tensor, source]) => [tensor, { source }]));
  for (const [path, module] of modules) {
    const parameter = expertParameters.get(path);
    if (parameter !== undefined) {
      for (const [source, updates] of expertUpdates(model, parameter, module)) {
        tensors.set(mergedEntry(model, source).name, { source, updates });
      }
      continue;
    }
    const { weight, transposed } = linears.get(path)!;
    const tensor = path === headModule?.name ? (layout.untiedHead ?? weight) : weight;
    const { source } = tensors.get(tensor)!;
    tensors.set(tensor, { source, updates: [updateOf(mergedEntry(model, source), module, transposed)] });
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
  const parts = new Set([...quantized.values()].flatMap((weight) => weight.parts));
  const names = [...tensors.keys()].filter((tensor) => !parts.has(tensor));
  const sources = new Map(names.map((tensor) => [mergedEntry({ quantized, tensors }, tensor).name, tensor]));
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
  const { a, b, rank, scale, inFeatures, outFeatures, experts } = module;
  const [height, width] = transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  if (experts !== undefined) {
    throw new ProductError(
      'invalid_adapter',
      `The adapter is for ${experts} experts, but ${name} is of a linear layer.`,
    );
  }
  if (shape.length !== 2 || shape[0] !== height || shape[1] !== width) {
    const message = `The adapter is for a layer of [${height}, ${width}], but ${name} of the base model is [${shape.join(', ')}].`;
    throw new ProductError('invalid_adapter', message);
  }
  // readModelFolder has checked that every linear layer has a float dtype, or is quantized.
  return { dtype: dtype as FloatDtype, shape: [height, width], transposed, a, b, rank, scale };
}

/**
 * The updates of the tensors of a parameter of experts: one for each expert of a fused tensor, or for each matrix of it that is
 * quantized by itself; of a tensor that has one projection of one expert, A of this expert and its rows of B.
 * @throws ProductError invalid_adapter when the adapter is not for as many experts of these sizes
 */
function expertUpdates(
  model: ModelFolder,
  { name, experts, inFeatures, outFeatures, tensors, transposed = false }: ExpertParameter,
  module: PeftModule,
): [source: string, updates: WeightUpdate[]][] {
  const { rank, scale } = module;
  if (module.experts !== experts || module.inFeatures !== inFeatures || module.outFeatures !== outFeatures) {
    const found = [...(module.experts === undefined ? [] : [module.experts]), module.outFeatures, module.inFeatures];
    const message = `The adapter is for a weight of [${found.join(', ')}], but ${name} of the base model is [${experts}, ${outFeatures}, ${inFeatures}].`;
    throw new ProductError('invalid_adapter', message);
  }
  if (transposed) {
    const source = tensors[0]!.name;
    const { dtype } = mergedEntry(model, source);
    const updates = Array.from({ length: experts }, (_, expert): WeightUpdate => {
      const { a, b } = ofExpert(module, expert);
      return { dtype: dtype as FloatDtype, shape: [inFeatures, outFeatures], transposed, a, b, rank, scale };
    });
    return [[source, updates]];
  }
  let next = 0; // of all rows [experts x out]
  return tensors.map(({ name: source, shape: stored }) => {
    const { dtype } = mergedEntry(model, source);
    const length = model.quantized.get(source)?.matrices ?? (stored.length === 3 ? stored[0]! : 1);
    const rows = stored.slice(0, -1).reduce((product, size) => product * size, 1) / length;
    const updates = Array.from({ length }, (): WeightUpdate => {
      const { a, b } = ofExpert(module, Math.floor(next / outFeatures));
      const first = next % outFeatures;
      next += rows;
      const ofRows = b.subarray(first * rank, (first + rows) * rank);
      return { dtype: dtype as FloatDtype, shape: [rows, inFeatures], transposed: false, a, b: ofRows, rank, scale };
    });
    return [source, updates];
  });
}

/** A tensor of the base model as it goes into a merged one: a quantized weight is decoded to bfloat16. */
export function mergedEntry(
  { quantized, tensors }: Pick<ModelFolder, 'quantized' | 'tensors'>,
  source: string,
): Pick<TensorEntry, 'name' | 'dtype' | 'shape' | 'byteLength'> {
  const { entry } = tensors.get(source)!;
  return quantized.get(source)?.merged(entry) ?? entry;
}

/** The location of that tensor in the files: in one part, or one for each matrix that is quantized by itself. */
export function storedParts(
  { quantized, tensors }: Pick<ModelFolder, 'quantized' | 'tensors'>,
  weights: ModelWeights,
  source: string,
): StoredTensor[] {
  const weight = quantized.get(source);
  if (weight === undefined) return [weights.location(source)];
  return weight.storedMatrices(tensors.get(source)!.entry, (name) => weights.location(name));
}
