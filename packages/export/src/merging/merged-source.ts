import type { ModelFolder, ModelWeights } from '@lorasmith/model-folder';
import type { FloatDtype, TensorEntry } from '@lorasmith/safetensors';
import type { QuantizedHere, QuantizedStorage, ScaledBlocks } from '@lorasmith/weight-io';

/** A tensor of the base model as it goes into a merged one: a quantized weight is decoded to bfloat16. */
export function mergedEntry(
  { quantized, tensors }: Pick<ModelFolder, 'quantized' | 'tensors'>,
  source: string,
): Pick<TensorEntry, 'name' | 'dtype' | 'shape' | 'byteLength'> {
  const { entry } = tensors.get(source)!;
  const weight = quantized.get(source);
  if (weight === undefined) return entry;
  const [rows, columns] = weight.shape;
  return { name: source, dtype: 'BF16', shape: [...weight.shape], byteLength: 2 * rows * columns };
}

/** Where that tensor is in the files. */
export function storedSource(
  model: Pick<ModelFolder, 'quantized' | 'tensors'>,
  weights: ModelWeights,
  source: string,
): { fd: number; offset: number; bytes: number; quantized?: QuantizedStorage | QuantizedHere | ScaledBlocks } {
  const stored = weights.location(source);
  const weight = model.quantized.get(source);
  if (weight === undefined) return stored;
  if (weight.form === 'scaled') return { ...stored, quantized: { shape: weight.shape, blocks: weight.blocks } };
  if (weight.form === 'made') {
    // Reading the folder has checked that it is a float dtype.
    const numbers = model.tensors.get(source)!.entry.dtype as FloatDtype;
    return { ...stored, quantized: { shape: weight.shape, numbers } };
  }
  const { shape, values, scales, nested } = weight;
  const quantized = {
    ...{ shape, values },
    scales: weights.location(scales),
    nested: nested && { ...nested, scales: weights.location(nested.scales) },
  };
  return { ...stored, quantized };
}
