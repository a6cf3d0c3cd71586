import type { ConfigFields } from '../config/config-fields.js';
import type { ExpertParameter, Family, LinearLayer, ModelLayout, QuantizedType } from '../families/family.js';
import { bitsandbytes } from './bitsandbytes.js';
import { fp8 } from './fp8.js';
import { mxfp4 } from './mxfp4.js';
import { INSTEAD, type QuantizedWeight, type TensorFiles, type WeightFormat } from './quantized-weight.js';

/** The formats of the files. To add one, add a file to this folder and a line here; packages/models reads it into the engine. */
const FORMATS: readonly WeightFormat[] = [bitsandbytes, fp8, mxfp4];

/** @throws ProductError model_not_supported for a quantization that Lorasmith does not read, or not of this family */
export function checkQuantization(config: ConfigFields, family: Family | undefined): void {
  const settings = config.nested('quantization_config');
  if (settings === undefined) return;
  const format = FORMATS.find(({ method }) => method === settings.text('quant_method'));
  if (format === undefined) throw settings.unsupported('quant_method', `is not supported: ${INSTEAD}`);
  format.check(settings, family);
}

/** The form of a weight in the files of a model. */
export interface StoredAs {
  type: QuantizedType;
  /** True if the tensor of the numbers has the shape of the weight. */
  keepsShape: boolean;
  /** True if the model may have this weight so. */
  isAllowed: boolean;
}

/** A function that says in which format the files of a model have a weight; null: as floats, or as the layout says. */
export function storedAs(
  config: ConfigFields,
  { tensors }: Pick<TensorFiles, 'tensors'>,
  layout: ModelLayout,
): (weight: string) => StoredAs | null {
  const formats = FORMATS.map((format) => {
    return { ...format, settings: settingsOf(config, format), allowed: format.mayHave(layout) };
  });
  return (weight) => {
    for (const { typeOf, settings, keepsShape, allowed } of formats) {
      const type = typeOf(tensors, weight, settings);
      if (type !== null) return { type, keepsShape, isAllowed: allowed.has(weight) };
    }
    return null;
  };
}

/**
 * The quantized weights of a model's files, by the name of the tensor of their numbers, including those that the model does not use.
 * @throws ProductError model_file_missing, model_file_corrupt, model_not_supported; each names the tensor
 */
export async function readQuantized(
  config: ConfigFields,
  files: TensorFiles,
  layout: ModelLayout,
): Promise<ReadonlyMap<string, QuantizedWeight>> {
  const weights = new Map<string, QuantizedWeight>();
  for (const format of FORMATS) {
    for (const [name, weight] of await format.read(files, layout, settingsOf(config, format)))
      weights.set(name, weight);
  }
  return weights;
}

/** quantization_config, where it names the format. */
function settingsOf(config: ConfigFields, { method }: WeightFormat): ConfigFields | null {
  const settings = config.nested('quantization_config');
  return settings?.text('quant_method') === method ? settings : null;
}

/**
 * True if layers that are computed as one product stay quantized in memory: all of them are, in one form. Others are decoded when they
 * are loaded.
 */
export function staysQuantized(
  quantized: ReadonlyMap<string, QuantizedWeight>,
  layers: readonly Pick<LinearLayer, 'weight'>[],
): boolean {
  return arePacked(
    quantized,
    layers.map(({ weight }) => weight),
  );
}

/** True if the experts of a layer stay quantized in memory, as {@link staysQuantized}: their matrices lie one below the other. */
export function expertsStayQuantized(
  quantized: ReadonlyMap<string, QuantizedWeight>,
  { tensors }: Pick<ExpertParameter, 'tensors'>,
): boolean {
  const names = tensors.map(({ name }) => name);
  const parts = new Set(names.flatMap((name) => quantized.get(name)?.parts ?? []));
  return arePacked(
    quantized,
    names.filter((name) => !parts.has(name)),
  );
}

function arePacked(quantized: ReadonlyMap<string, QuantizedWeight>, names: readonly string[]): boolean {
  const [first = null, ...others] = names.map((name) => quantized.get(name)?.packing ?? null);
  return first !== null && others.every((packing) => packing === first);
}
