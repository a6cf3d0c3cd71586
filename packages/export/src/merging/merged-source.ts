import type { ModelFolder, ModelWeights } from '@lorasmith/model-folder';
import type { TensorEntry } from '@lorasmith/safetensors';
import type { StoredTensor } from '@lorasmith/weight-io';

/** A tensor of the base model as it goes into a merged one: a quantized weight is decoded to bfloat16. */
export function mergedEntry(
  { quantized, tensors }: Pick<ModelFolder, 'quantized' | 'tensors'>,
  source: string,
): Pick<TensorEntry, 'name' | 'dtype' | 'shape' | 'byteLength'> {
  const { entry } = tensors.get(source)!;
  return quantized.get(source)?.merged(entry) ?? entry;
}

/** Where that tensor is in the files: in one part, or one for each matrix that is quantized by itself. */
export function storedParts(
  { quantized, tensors }: Pick<ModelFolder, 'quantized' | 'tensors'>,
  weights: ModelWeights,
  source: string,
): StoredTensor[] {
  const weight = quantized.get(source);
  if (weight === undefined) return [weights.location(source)];
  return weight.storedMatrices(tensors.get(source)!.entry, (name) => weights.location(name));
}
