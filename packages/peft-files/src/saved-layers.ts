import { ProductError } from '@lorasmith/contracts';
import { lastPartOf, type ModelFolder, openModelWeights, tensorName } from '@lorasmith/model-folder';
import {
  DTYPE_BITS,
  type FloatDtype,
  fromFloat32,
  isFloatDtype,
  type SafetensorsFile,
  toFloat32,
} from '@lorasmith/safetensors';
import { shownName } from './shown.js';

/** A base weight that PEFT has saved with an adapter of the output head: the embedding's or the head's. */
export interface SavedLayer {
  key: string;
  /** Name of the same tensor in the base's files. */
  tensor: string;
}

const KEY = /^base_model\.model\.(.+?)(?:\.base_layer)?\.weight$/s;
/** Numbers that are compared at a time. */
const PIECE_NUMBERS = 2 ** 20;

/** The tensors of an adapter's file that are weights of the base, by their names. PEFT saves them unless `save_embedding_layers` is false. */
export function savedLayers(
  { tensors }: Pick<SafetensorsFile, 'tensors'>,
  { architecture, linears }: ModelFolder,
): SavedLayer[] {
  if (architecture.kind !== 'decoder') return [];
  const { names } = architecture;
  return [...tensors.keys()].flatMap((key) => {
    const module = KEY.exec(key)?.[1];
    if (module === undefined || /\.lora_[AB]$/.test(module)) return [];
    if (lastPartOf(module) === lastPartOf(names.embedding)) {
      return [{ key, tensor: tensorName(names, `${names.embedding}.weight`) }];
    }
    return lastPartOf(module) === names.head ? [{ key, tensor: linears.get(names.head)!.weight }] : [];
  });
}

/**
 * Checks that a saved weight is the base's own, in the dtype in which it was saved: otherwise it was trained too, or has more rows.
 * @throws ProductError invalid_adapter naming the tensor; the errors of the base's files
 */
export async function checkIsOfBase(
  file: SafetensorsFile,
  { key, tensor }: SavedLayer,
  model: ModelFolder,
): Promise<void> {
  const saved = file.tensors.get(key)!;
  const own = model.tensors.get(tensor)!.entry;
  if (!isFloatDtype(saved.dtype) || saved.shape.join() !== own.shape.join()) throw differs(key, model);
  // Reading the folder has checked the dtype of every tensor that the model uses.
  const dtype = own.dtype as FloatDtype;
  const [savedBytes, ownBytes] = [DTYPE_BITS[saved.dtype] / 8, DTYPE_BITS[dtype] / 8];
  const count = saved.byteLength / savedBytes;
  const weights = await openModelWeights(model);
  try {
    for (let begin = 0; begin < count; begin += PIECE_NUMBERS) {
      const numbers = Math.min(PIECE_NUMBERS, count - begin);
      const [theirs, base] = [new Uint8Array(numbers * savedBytes), new Uint8Array(numbers * ownBytes)];
      await file.readPiece(key, begin * savedBytes, theirs);
      await weights.readPiece(tensor, begin * ownBytes, base);
      if (Buffer.compare(theirs, fromFloat32(toFloat32(base, dtype), saved.dtype)) !== 0) throw differs(key, model);
    }
  } finally {
    await weights.close();
  }
}

function differs(key: string, { name }: ModelFolder): ProductError {
  const shown = shownName(key);
  const message = `adapter_model.safetensors: ${shown} is not the weight of ${name}. It was trained, or resized, or belongs to another base; only the matrices of LoRA are supported. Save the adapter with save_embedding_layers=False if it does not need this weight.`;
  return new ProductError('invalid_adapter', message, { param: shown });
}
