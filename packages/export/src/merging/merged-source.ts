import type { ModelFolder, ModelWeights } from '@lorasmith/model-folder';
import type { FloatDtype, TensorEntry } from '@lorasmith/safetensors';
import type { StoredTensor } from '@lorasmith/weight-io';

/** A tensor of the base model as it goes into a merged one: a quantized weight is decoded to bfloat16, and one in MXFP4 transposed. */
export function mergedEntry(
  { quantized, tensors }: Pick<ModelFolder, 'quantized' | 'tensors'>,
  source: string,
): Pick<TensorEntry, 'name' | 'dtype' | 'shape' | 'byteLength'> {
  const { entry } = tensors.get(source)!;
  const weight = quantized.get(source);
  if (weight === undefined) return entry;
  if (weight.form === 'mxfp4') {
    const [experts, rows, columns] = weight.shape;
    const byteLength = 2 * experts * rows * columns;
    return { name: weight.parameter, dtype: 'BF16', shape: [experts, columns, rows], byteLength };
  }
  // A tensor of fused experts has more axes than a matrix of it.
  const shape = [...(weight.form === 'stored' ? weight : entry).shape];
  return { name: source, dtype: 'BF16', shape, byteLength: 2 * shape.reduce((product, size) => product * size, 1) };
}

/** Where that tensor is in the files: in one part, or one for each matrix that is quantized by itself. */
export function storedParts(
  model: Pick<ModelFolder, 'quantized' | 'tensors'>,
  weights: ModelWeights,
  source: string,
): StoredTensor[] {
  const weight = model.quantized.get(source);
  if (weight?.form === 'made' && weight.matrices !== undefined) {
    const { matrices } = weight;
    const all = storedSource(model, weights, source);
    return Array.from({ length: matrices }, (_, index) => pieceOf(all, index, matrices));
  }
  if (weight?.form !== 'mxfp4') return [storedSource(model, weights, source)];
  const [experts, rows, columns] = weight.shape;
  const [codes, scales] = [weights.location(source), weights.location(weight.scales)];
  return Array.from({ length: experts }, (_, expert) => {
    const exponents = pieceOf(scales, expert, experts);
    return { ...pieceOf(codes, expert, experts), quantized: { shape: [rows, columns], exponents } };
  });
}

/** One of the equal pieces of a part. */
export function pieceOf<Part extends { offset: number; bytes: number }>(
  part: Part,
  index: number,
  count: number,
): Part {
  const bytes = part.bytes / count;
  return { ...part, offset: part.offset + index * bytes, bytes };
}

/** Where a tensor is in the files that is no parameter of experts in MXFP4; its quantization is that of each of its matrices. */
export function storedSource(
  model: Pick<ModelFolder, 'quantized' | 'tensors'>,
  weights: ModelWeights,
  source: string,
): StoredTensor {
  const stored = weights.location(source);
  const weight = model.quantized.get(source);
  if (weight === undefined) return stored;
  if (weight.form === 'mxfp4') throw new Error(`${source} is of several experts`);
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
