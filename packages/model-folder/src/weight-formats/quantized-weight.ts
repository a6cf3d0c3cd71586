import type { AdapterManifest } from '@lorasmith/contracts';
import type { BlockScales, StoredTensor, TensorEntry } from '@lorasmith/weight-files';
import type { ConfigFields } from '../config/config-fields.js';
import type { Family, ModelLayout, QuantizedType } from '../families/family.js';
import type { LocatedTensor } from '../weights/locate-tensors.js';

/** The advice for weights in another form. */
export const INSTEAD = 'use the original model in bfloat16, or a copy of it in 4 bits of bitsandbytes (NF4 or FP4)';

/** The tensors of a model's files. */
export interface TensorFiles {
  /** The folder of the model. */
  path: string;
  tensors: ReadonlyMap<string, LocatedTensor>;
}

/** Finds the bytes of a tensor; see ModelWeights. */
export type TensorLocation = (name: string) => { fd: number; offset: number; bytes: number };

/** A format of quantized weights in files: a file of this folder, named in `weight-formats.ts`. */
export interface WeightFormat {
  /** The `quant_method` of its quantization_config. */
  readonly method: string;
  /**
   * Checks quantization_config.
   * @throws ProductError model_not_supported, model_file_corrupt
   */
  check(settings: ConfigFields, family: Family | undefined): void;
  /**
   * The type of a weight's numbers; null: this format does not have it.
   * @param settings quantization_config, where it names this format
   */
  typeOf(
    tensors: ReadonlyMap<string, LocatedTensor>,
    weight: string,
    settings: ConfigFields | null,
  ): QuantizedType | null;
  /** The tensors of a model that may be in it. */
  mayHave(layout: ModelLayout): Set<string>;
  /** True if the tensor of the numbers has the shape of the weight. */
  readonly keepsShape: boolean;
  /**
   * Reads and checks all but the numbers of such weights, by the name of the tensor of the numbers.
   * @throws ProductError model_file_missing, model_file_corrupt, model_not_supported; each names the tensor
   */
  read(files: TensorFiles, layout: ModelLayout, settings: ConfigFields | null): Promise<[string, QuantizedWeight][]>;
}

/** The name of a reader into the engine; see packages/models. */
export type WeightReader = 'stored-4-bit' | 'quantized-on-load' | 'fp8' | 'mxfp4';

/** A weight in 4 or 8 bits: in the files, or in memory alone, where it is quantized when it is read. */
export interface QuantizedWeight {
  readonly reader: WeightReader;
  readonly type: QuantizedType;
  /** `[out, in]`; of several experts `[experts, out, in]` */
  readonly shape: readonly number[];
  /** The matrices that are quantized each by itself, one behind the other; null: as many as the tensor has. */
  readonly matrices: number | null;
  /** The other tensors of the files that belong to it. */
  readonly parts: readonly string[];
  /** Weights of one key stay quantized in memory, as one matrix; null: they are decoded when they are loaded. */
  readonly packing: string | null;
  /** Bytes in memory, where it stays quantized. */
  readonly packedBytes: number;
  /** The scales by which its numbers are decoded as they are read from the files; null: they are not. */
  readonly decodedBy: BlockScales | null;
  /** The type of GGUF that has the same numbers; null: none. */
  readonly ggufType: 'MXFP4' | null;
  /** Its settings in the manifest of an adapter; null: none. */
  readonly recorded: Recorded | null;
  /** The tensor as a merged model has it, in bfloat16. @param entry of its numbers in the files */
  merged(entry: TensorEntry): Pick<TensorEntry, 'name' | 'dtype' | 'shape' | 'byteLength'>;
  /** The location of each of its matrices in the files, and the way to decode it. @param entry of its numbers in the files */
  storedMatrices(entry: TensorEntry, locate: TensorLocation): StoredTensor[];
}

type Recorded = Pick<NonNullable<AdapterManifest['base_model']['quantization']>, 'type' | 'double_quantization'>;

/** A tensor of a merged model in bfloat16. @param shape of the tensor in the files, or of the decoded weight */
export function inBfloat16(name: string, shape: readonly number[]): ReturnType<QuantizedWeight['merged']> {
  const byteLength = 2 * shape.reduce((product, size) => product * size, 1);
  return { name, dtype: 'BF16', shape: [...shape], byteLength };
}

/** One of `count` equal parts of bytes in a file. */
export function equalPart<Part extends { offset: number; bytes: number }>(
  part: Part,
  index: number,
  count: number,
): Part {
  const bytes = part.bytes / count;
  return { ...part, offset: part.offset + index * bytes, bytes };
}
