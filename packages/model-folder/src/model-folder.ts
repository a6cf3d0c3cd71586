import { basename, resolve } from 'node:path';
import { type AdaptableModule, type BaseQuantization, ModelOrigin, ProductError } from '@lorasmith/contracts';
import { type FloatDtype, isFloatDtype } from '@lorasmith/weight-files';
import { Value } from 'typebox/value';
import { type Architecture, hasTiedHead } from './architecture.js';
import { ConfigFields } from './config/config-fields.js';
import { missingJsonFile, modelFileLabel, readJsonFile, readOptionalJsonFile } from './config/json-file.js';
import type {
  ExpertParameter,
  Family,
  LinearLayer,
  ModelLayout,
  QuantizedType,
  RequiredTensor,
} from './families/family.js';
import { FAMILIES } from './families/family-registry.js';
import type { QuantizedWeight } from './weight-formats/quantized-weight.js';
import { checkQuantization, readQuantized, type StoredAs, storedAs } from './weight-formats/weight-formats.js';
import {
  type LocatedTensor,
  readWeightFiles,
  type WeightFile,
  weightsOfOtherFormat,
} from './weights/locate-tensors.js';
import { withHeadOfFiles } from './weights/tied-head.js';

const MAX_CONFIG_BYTES = 4 * 2 ** 20;
/** Limits, for docs/limits.md. */
export const configLimits = {
  bytes: { value: MAX_CONFIG_BYTES, unit: 'bytes', beyond: '422 `model_file_corrupt`' },
};

/** The names of the weight dtypes in the API and in PyTorch. */
export const DTYPE_NAMES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const satisfies Record<
  FloatDtype,
  string
>;
export type DtypeName = (typeof DTYPE_NAMES)[FloatDtype] | QuantizedType;

/** The file in a model's folder that names the source of a pulled model, as a {@link ModelOrigin}. */
export const ORIGIN_FILE = 'lorasmith-origin.json';
const MAX_ORIGIN_BYTES = 10_000;

/** A base-model folder in Hugging Face layout, read without loading the weights. */
export interface ModelFolder {
  /** Absolute. */
  path: string;
  /** Name of the folder. */
  name: string;
  /** The repository of the hub that it was pulled from; null if it came otherwise. */
  origin: ModelOrigin | null;
  architecture: Architecture;
  files: WeightFile[];
  /** Every tensor of the weight files, including those that the architecture does not use. */
  tensors: ReadonlyMap<string, LocatedTensor>;
  /**
   * The weights in 4 or 8 bits, by the name of the tensor of their codes: those of the files, including those that the architecture does not use, or those that are
   * quantized when they are read. Empty for most models.
   */
  quantized: ReadonlyMap<string, QuantizedWeight>;
  /** The quantization of weights when they are read; see withBaseQuantization. */
  baseQuantization: BaseQuantization;
  /** Every linear layer, including the output head, by its full name in PEFT. */
  linears: ReadonlyMap<string, LinearLayer>;
  /** Every parameter of experts that can be adapted, by its full name in PEFT. */
  expertParameters: ReadonlyMap<string, ExpertParameter>;
  /** Every linear layer except the output head, as the API lists them. */
  modules: AdaptableModule[];
  /** The parameters of experts as the API lists them, which only `target_parameters` selects. Empty for a model without experts. */
  parameters: AdaptableModule[];
  /** The output head (`lm_head`), tied or not; null for a classifier. */
  headModule: AdaptableModule | null;
  /** True if config.json ties the head to the embedding, but the files have a different head. The model uses that head. */
  untiedByFiles: boolean;
  /** A tied head counts once, and a quantized weight as many as it has numbers. */
  parameterCount: number;
  /** Total size of the weight files. */
  weightBytes: number;
  /** The dtype of most parameters. */
  dtype: DtypeName;
}

/**
 * Reads and checks a base-model folder: config.json, generation_config.json, and the headers of the weight files. The
 * check ensures that every tensor of the architecture exists, with the expected shape and a float dtype, or quantized to 4 or 8 bits.
 *
 * @throws ProductError model_file_missing, model_file_corrupt (naming the file and the tensor), model_not_supported
 *   (naming the field)
 */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  const path = resolve(folder);
  const configJson = await readOptionalJsonFile(path, 'config.json', MAX_CONFIG_BYTES);
  // A download of GGUF has that file alone.
  if (configJson === null) throw (await weightsOfOtherFormat(path)) ?? missingJsonFile(path, 'config.json');
  const config = new ConfigFields(configJson, modelFileLabel(path, 'config.json'));
  const generationJson = await readOptionalJsonFile(path, 'generation_config.json', MAX_CONFIG_BYTES);
  const generation = generationJson
    ? new ConfigFields(generationJson, modelFileLabel(path, 'generation_config.json'))
    : undefined;
  const family = chooseFamily(config);
  const { files, tensors } = await readWeightFiles(path);
  const read = family.readArchitecture({ config, generation, hasTensor: (name) => tensors.has(name) });
  const architecture = read.kind === 'decoder' ? await withHeadOfFiles(read, path, tensors) : read;
  const layout = family.layout(architecture);
  const { parameters = [] } = layout;
  const { parameterCount, dtype } = checkTensors(path, layout, tensors, storedAs(config, { tensors }, layout));
  return {
    path,
    name: basename(path),
    origin: await originOf(path),
    architecture,
    files,
    tensors,
    quantized: await readQuantized(config, { path, tensors }, layout),
    baseQuantization: 'none',
    linears: new Map([...layout.linears, ...(layout.head ? [layout.head] : [])].map((linear) => [linear.name, linear])),
    expertParameters: new Map(parameters.map((parameter) => [parameter.name, parameter])),
    modules: layout.linears.map(moduleOf),
    parameters: parameters.map((parameter) => ({ ...moduleOf(parameter), experts: parameter.experts })),
    headModule: layout.head && moduleOf(layout.head),
    untiedByFiles: hasTiedHead(read) && !hasTiedHead(architecture),
    parameterCount,
    weightBytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    dtype,
  };
}

/** Null without the file, and for one that something else has written: a model is used whatever the file says. */
export async function originOf(path: string): Promise<ModelOrigin | null> {
  try {
    const origin: unknown = await readOptionalJsonFile(path, ORIGIN_FILE, MAX_ORIGIN_BYTES);
    return Value.Check(ModelOrigin, origin) ? origin : null;
  } catch (error) {
    if (error instanceof ProductError) return null;
    throw error;
  }
}

/**
 * Checks of a folder that may lack its weights what config.json alone shows: whether the family is supported, and nothing
 * is needed that Lorasmith does not do.
 *
 * @throws ProductError model_file_missing, model_file_corrupt, model_not_supported (naming the field)
 */
export async function checkModelConfig(folder: string): Promise<void> {
  const path = resolve(folder);
  const config = await readJsonFile(path, 'config.json', MAX_CONFIG_BYTES);
  chooseFamily(new ConfigFields(config, modelFileLabel(path, 'config.json')));
}

function moduleOf({
  name,
  inFeatures,
  outFeatures,
}: Pick<LinearLayer, 'name' | 'inFeatures' | 'outFeatures'>): AdaptableModule {
  return { name, in_features: inFeatures, out_features: outFeatures };
}

function chooseFamily(config: ConfigFields) {
  const modelType = config.text('model_type');
  if (modelType === undefined) throw config.corrupt('model_type', 'is missing');
  const family = FAMILIES.get(modelType);
  if (!family) {
    throw config.unsupported('model_type', `is not supported; ${[...FAMILIES.keys()].join(', ')} are`);
  }
  if (config.has('auto_map') && !namesKnownCode(config, family)) {
    throw config.unsupported('auto_map', 'is not supported: Lorasmith never runs the code of a model');
  }
  checkFeatures(config);
  const text = config.nested('text_config');
  if (text !== undefined) checkFeatures(text);
  return family;
}

/** True if the code that a model brings is of classes that its family covers. */
function namesKnownCode(config: ConfigFields, { knownCode = new Set() }: Family): boolean {
  const classes: unknown[] = Object.values(config.value('auto_map') as object);
  return (
    classes.length > 0 &&
    classes.every((name) => typeof name === 'string' && knownCode.has(name.slice(name.lastIndexOf('.') + 1)))
  );
}

/** @throws ProductError model_not_supported for what no family supports */
function checkFeatures(config: ConfigFields): void {
  // As in transformers, null too makes attention bidirectional.
  if (config.isNull('is_causal') || (config.has('is_causal') && config.value('is_causal') !== true)) {
    throw config.unsupported('is_causal', 'is not supported: attention is causal');
  }
  const family = FAMILIES.get(config.text('model_type') ?? '');
  if (config.has('per_layer_config') && family?.readsLayerConfigs !== true) {
    throw config.unsupported('per_layer_config', 'is not supported: all layers must have the same config');
  }
  checkQuantization(config, family);
}

function checkTensors(
  folder: string,
  { tensors: required, contradicting }: ModelLayout,
  tensors: ReadonlyMap<string, LocatedTensor>,
  storedAs: (weight: string) => StoredAs | null,
) {
  for (const [name, what] of contradicting ?? []) {
    const located = tensors.get(name);
    if (located === undefined) continue;
    throw new ProductError('model_file_corrupt', `${modelFileLabel(folder, located.file)}: tensor ${name} ${what}.`);
  }
  let parameterCount = 0;
  const parametersOfDtype = new Map<DtypeName, number>();
  const take = (dtype: DtypeName, { shape, packed }: RequiredTensor) => {
    const count = packed?.numbers ?? shape.reduce((product, size) => product * size, 1);
    parameterCount += count;
    parametersOfDtype.set(dtype, (parametersOfDtype.get(dtype) ?? 0) + count);
  };
  for (const tensor of required) {
    const { name, shape } = tensor;
    const located = tensors.get(name);
    if (!located) {
      throw new ProductError('model_file_missing', `${basename(folder)}: no weight file contains the tensor ${name}.`);
    }
    const { file, entry } = located;
    const label = `${modelFileLabel(folder, file)}: tensor ${name}`;
    const stored = storedAs(name);
    if (stored !== null) {
      if (!stored.isAllowed) {
        const supported = 'Linear layers can be, and experts that the files have each by itself';
        const others = 'fused experts, embeddings, norms or the output head';
        throw new ProductError('model_not_supported', `${label} is quantized. ${supported}, but not ${others}.`);
      }
      take(stored.type, tensor);
      // Another shape is checked where it is read.
      if (!stored.keepsShape) continue;
    }
    if (entry.shape.length !== shape.length || entry.shape.some((size, index) => size !== shape[index])) {
      const found = `[${entry.shape.join(', ')}]`;
      const expected = `[${shape.join(', ')}]`;
      throw new ProductError(
        'model_file_corrupt',
        `${label} has the shape ${found}; config.json requires ${expected}.`,
      );
    }
    if (stored !== null) continue;
    if (tensor.packed !== undefined) {
      const { type } = tensor.packed;
      if (entry.dtype !== 'U8') {
        const message = `${label} is ${entry.dtype}; a part of weights in ${type.toUpperCase()} is U8.`;
        throw new ProductError('model_not_supported', message);
      }
      take(type, tensor);
      continue;
    }
    if (!isFloatDtype(entry.dtype)) {
      throw new ProductError('model_not_supported', `${label} is ${entry.dtype}; F32, F16 and BF16 are supported.`);
    }
    take(DTYPE_NAMES[entry.dtype], tensor);
  }
  const [mostUsed] = [...parametersOfDtype].sort(([, a], [, b]) => b - a)[0]!;
  return { parameterCount, dtype: mostUsed };
}
