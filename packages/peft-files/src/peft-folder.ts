import { open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_FILES, ProductError } from '@lorasmith/contracts';
import {
  isComposite,
  isExpertParameter,
  lastPartOf,
  type ModelFolder,
  openModelWeights,
  targetModulesOf,
  targetParametersOf,
  tensorName,
} from '@lorasmith/model-folder';
import {
  DTYPE_BITS,
  type FloatDtype,
  fromFloat32,
  isFloatDtype,
  openSafetensors,
  SafetensorsError,
  type SafetensorsFile,
  toFloat32,
  writeSafetensors,
} from '@lorasmith/weight-files';
import { type CommonForm, commonForm } from './common-scale.js';
import { type PeftAdapter, type PeftModule, shownName } from './peft-adapter.js';
import { formatPeftConfig, type PeftConfig, type PeftConfigToWrite, parsePeftConfig } from './peft-config.js';
import { type PeftShapes, peftShapes, readModule, tensorsOf } from './peft-weights.js';

/** A config has a few kilobytes, or a few hundred with long lists of names. */
const MAX_CONFIG_BYTES = 4 * 2 ** 20;

/** An adapter is read into memory completely. This is 2 billion numbers, for instance r = 512 on every layer of an 8B model. */
const MAX_WEIGHTS_BYTES = 8 * 2 ** 30;

interface ReadPeftOptions {
  /** Called with the ranks and sizes before any tensor is read; may throw. */
  check?: (shapes: PeftShapes) => void;
  /**
   * The base model of an adapter from elsewhere. Its embedding and head may be among the tensors, unchanged, as PEFT saves them
   * with an adapter of the head. Without it, any tensor but those of LoRA is refused.
   */
  base?: ModelFolder;
}

/**
 * Reads a PEFT LoRA folder: `adapter_config.json` and `adapter_model.safetensors` in F32, F16 or BF16.
 * The rank and scale of each module include `use_rslora`, `rank_pattern` and `alpha_pattern`.
 *
 * @throws ProductError invalid_adapter naming the file and the field or tensor; the errors of `check` and of the base's files
 */
export async function readPeftFolder(folder: string, options: ReadPeftOptions = {}): Promise<PeftAdapter> {
  const config = parsePeftConfig(await readConfigText(folder));
  try {
    return await readModules(folder, config, options);
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
    const message = `adapter_model.safetensors is damaged: ${error.message}.`;
    throw new ProductError('invalid_adapter', message, { cause: error });
  }
}

async function readModules(folder: string, config: PeftConfig, { check, base }: ReadPeftOptions): Promise<PeftAdapter> {
  const path = join(folder, ADAPTER_FILES.weights);
  await checkSize(path, ADAPTER_FILES.weights, MAX_WEIGHTS_BYTES);
  const file = await openSafetensors(path);
  try {
    const saved = base === undefined ? [] : savedLayers(file, base);
    const shapes = peftShapes(file, config, new Set(saved.map(({ key }) => key)));
    check?.(shapes);
    for (const layer of saved) await checkIsOfBase(file, layer, base!);
    const modules = new Map<string, PeftModule>();
    for (const [name, shape] of shapes) {
      modules.set(name, { ...(await readModule(file, shape)), scale: config.scaleOf(name, shape.rank) });
    }
    return { dropout: config.dropout, modules, baseModelNameOrPath: config.baseModelNameOrPath };
  } finally {
    await file.close();
  }
}

/** The properties of the base model that are needed to write an adapter. */
export type AdapterBase = Pick<ModelFolder, 'name' | 'origin' | 'architecture' | 'linears' | 'parameters'>;

/**
 * Writes an adapter in PEFT's format: matrices in float32, and a config for PEFT from 0.6 on, vLLM and llama.cpp. All modules
 * have the same rank and scale: see {@link commonForm}. The folder must exist. Files in it are replaced one by one, so use a
 * folder that no other process reads yet.
 *
 * @returns the form in which the adapter was written
 */
export async function writePeftFolder(folder: string, adapter: PeftAdapter, base: AdapterBase): Promise<CommonForm> {
  const common = commonForm(adapter);
  await writeSafetensors(join(folder, ADAPTER_FILES.weights), tensorsOf(common.modules), { format: 'pt' });
  const config = formatPeftConfig({
    r: common.r,
    alpha: common.alpha,
    dropout: adapter.dropout,
    ...targetsIn(base, [...adapter.modules.keys()]),
    // PEFT's AutoPeftModel and vLLM's resolvers look for the base model under this name.
    baseModelNameOrPath: base.origin?.repo ?? base.name,
    revision: base.origin?.commit ?? null,
    fanInFanOut: [...adapter.modules.keys()].some((name) => base.linears.get(name)?.transposed),
    taskType: base.architecture.kind === 'decoder' ? 'CAUSAL_LM' : null,
  });
  await writeFile(join(folder, ADAPTER_FILES.config), config, { flush: true });
  return common;
}

/** Full names for a composite, whose encoder has layers with the same last parts. */
function targetsIn(
  { architecture, linears, parameters }: AdapterBase,
  adapted: readonly string[],
): Pick<PeftConfigToWrite, 'targetModules' | 'targetParameters'> {
  const layers = adapted.filter((name) => !isExpertParameter(name));
  const ofExperts = adapted.filter(isExpertParameter);
  return {
    targetModules: isComposite(architecture) ? layers.sort() : targetModulesOf(layers, linears.keys()),
    targetParameters: targetParametersOf(
      ofExperts,
      parameters.map(({ name }) => name),
    ),
  };
}

async function readConfigText(folder: string): Promise<string> {
  const path = join(folder, ADAPTER_FILES.config);
  await checkSize(path, ADAPTER_FILES.config, MAX_CONFIG_BYTES);
  const handle = await open(path, 'r');
  try {
    const bytes = await handle.readFile();
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ProductError('invalid_adapter', 'adapter_config.json is not valid UTF-8.', { cause });
  } finally {
    await handle.close();
  }
}

async function checkSize(path: string, name: string, maxBytes: number): Promise<void> {
  const found = await stat(path).catch((cause: unknown) => {
    const message = `The adapter has no readable ${name}. Pickled weights (.bin) are not supported.`;
    throw new ProductError('invalid_adapter', message, { cause });
  });
  if (!found.isFile()) throw new ProductError('invalid_adapter', `${name} is not a file.`);
  if (found.size > maxBytes) {
    throw new ProductError('invalid_adapter', `${name} has ${found.size} bytes; the limit is ${maxBytes}.`);
  }
}

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
function savedLayers(
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
async function checkIsOfBase(file: SafetensorsFile, { key, tensor }: SavedLayer, model: ModelFolder): Promise<void> {
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
      await file.readRange(key, begin * savedBytes, theirs);
      await weights.readRange(tensor, begin * ownBytes, base);
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

/** Prefixes of the language model of a composite: alone, and in the classes of transformers before 4.52. */
const OTHER_ROOTS = ['language_model.model.', 'language_model.', 'model.'];

/**
 * An adapter with the module paths of the class that is served. An adapter of a composite may have been trained on its language
 * model alone, whose paths lack `language_model`; servers would ignore those matrices.
 *
 * @throws ProductError invalid_adapter for two modules that are the same one
 */
export function withServedNames(adapter: PeftAdapter, { architecture, linears, parameters }: AdapterBase): PeftAdapter {
  if (architecture.kind !== 'decoder') return adapter;
  const { layers, head } = architecture.names;
  const root = layers.slice(0, layers.lastIndexOf('.') + 1);
  const ofParameters = new Set(parameters.map(({ name }) => name));
  const isServed = (name: string) => linears.has(name) || ofParameters.has(name);
  const servedName = (name: string) => {
    if (isServed(name)) return name;
    for (const other of OTHER_ROOTS.filter((prefix) => name.startsWith(prefix))) {
      const rest = name.slice(other.length);
      const served = rest === head ? head : root + rest;
      if (isServed(served)) return served;
    }
    return name;
  };
  const modules = new Map<string, PeftModule>();
  for (const [name, module] of adapter.modules) {
    const served = servedName(name);
    if (modules.has(served)) {
      const message = `The adapter has two modules for ${shownName(served)}; one is ${shownName(name)}.`;
      throw new ProductError('invalid_adapter', message, { param: shownName(name) });
    }
    modules.set(served, module);
  }
  return { ...adapter, modules };
}
