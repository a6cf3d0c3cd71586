import { open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_FILES, ProductError } from '@lorasmith/contracts';
import {
  isComposite,
  isExpertParameter,
  type ModelFolder,
  targetModulesOf,
  targetParametersOf,
} from '@lorasmith/model-folder';
import { openSafetensors, SafetensorsError, writeSafetensors } from '@lorasmith/safetensors';
import { type CommonForm, commonForm } from './common-scale.js';
import type { PeftAdapter, PeftModule } from './peft-adapter.js';
import { formatPeftConfig, type PeftConfig, type PeftConfigToWrite, parsePeftConfig } from './peft-config.js';
import { type PeftShapes, peftShapes, readModule, tensorsOf } from './peft-weights.js';
import { checkIsOfBase, savedLayers } from './saved-layers.js';

/** A config has a few kilobytes, or a few hundred with long lists of names. */
const MAX_CONFIG_BYTES = 4 * 2 ** 20;

/** An adapter is read into memory completely. This is 2 billion numbers, for instance r = 512 on every layer of an 8B model. */
const MAX_WEIGHTS_BYTES = 8 * 2 ** 30;

export interface ReadPeftOptions {
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
export type AdapterBase = Pick<ModelFolder, 'name' | 'architecture' | 'linears' | 'parameters'>;

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
    baseModelName: base.name,
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
