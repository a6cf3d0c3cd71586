import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseModel, type BaseModelDetail, MODEL_NAME_PATTERN, ProductError } from '@lorasmith/contracts';
import { isMissing } from './config/json-file.js';
import { type ModelFolder, originOf, readModelFolder } from './model-folder.js';
import { readChatTemplates } from './template/chat-template.js';
import { namedTokensOf, readTokenizerConfig } from './tokenizer/tokenizer-files.js';

const NAME_PATTERN = new RegExp(MODEL_NAME_PATTERN);

/** The number of names that an error lists before it counts the rest. */
const LISTED_NAMES = 20;

/** Every folder of the models folder with a valid model name, sorted by name. An invalid model has a `problem`. */
export async function listModelFolders(modelsDir: string): Promise<BaseModel[]> {
  const models: BaseModel[] = [];
  for (const name of await modelNames(modelsDir)) {
    const { modules: _, expert_parameters: __, ...model } = (await describe(modelsDir, name)).described;
    models.push(model);
  }
  return models;
}

/**
 * One base model with all its modules. An invalid model has a `problem` and no modules.
 *
 * @throws ProductError model_not_found
 */
export async function describeModel(modelsDir: string, name: string): Promise<BaseModelDetail> {
  await requireName(modelsDir, name);
  const { described, folder } = await describe(modelsDir, name);
  return { ...described, text: folder === null ? null : await describeText(folder) };
}

/** The longest chat template that is shown. The largest known ones have about 30 KB. */
const SHOWN_TEMPLATE_CHARACTERS = 65_536;

/** The description of its text by its files; null for a classifier. The tokenizer itself is not loaded: that can take seconds. */
async function describeText({ architecture, path }: ModelFolder): Promise<BaseModelDetail['text']> {
  if (architecture.kind !== 'decoder') return null;
  const vocab_size = architecture.vocabSize;
  try {
    const config = await readTokenizerConfig(path);
    const { bos: bos_token, eos: eos_token, pad: pad_token } = namedTokensOf(config);
    const templates = await readChatTemplates(path, config);
    const chat_template = templates?.source.slice(0, SHOWN_TEMPLATE_CHARACTERS) ?? null;
    return { vocab_size, bos_token, eos_token, pad_token, chat_template, problem: null };
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    const problem = { code: error.code, message: error.message };
    return { vocab_size, bos_token: null, eos_token: null, pad_token: null, chat_template: null, problem };
  }
}

/**
 * Reads and checks the base model of this name.
 *
 * @throws ProductError model_not_found (lists the existing names), and the errors of readModelFolder
 */
export async function openBaseModel(modelsDir: string, name: string): Promise<ModelFolder> {
  await requireName(modelsDir, name);
  return await readModelFolder(join(modelsDir, name));
}

type WithoutText = Omit<BaseModelDetail, 'text'>;

/** @returns `folder` is null for an invalid model */
async function describe(
  modelsDir: string,
  name: string,
): Promise<{ described: WithoutText; folder: ModelFolder | null }> {
  const path = join(modelsDir, name);
  try {
    const folder = await readModelFolder(path);
    return { described: describeFolder(folder), folder };
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    const described: WithoutText = {
      name,
      object: 'model',
      family: null,
      parameters: null,
      bytes: await weightBytes(path),
      dtype: null,
      max_positions: null,
      target_modules: [],
      problem: { code: error.code, message: error.message },
      origin: await originOf(path),
      modules: [],
      expert_parameters: [],
    };
    return { described, folder: null };
  }
}

function describeFolder(folder: ModelFolder): WithoutText {
  const { architecture, headModule } = folder;
  const modules = headModule === null ? folder.modules : [...folder.modules, headModule];
  return {
    name: folder.name,
    object: 'model',
    family: architecture.family,
    parameters: folder.parameterCount,
    bytes: folder.weightBytes,
    dtype: folder.dtype,
    max_positions: architecture.kind === 'decoder' ? architecture.maxPositions : null,
    target_modules: [...new Set(modules.map(({ name }) => name.slice(name.lastIndexOf('.') + 1)))],
    problem: null,
    origin: folder.origin,
    modules,
    expert_parameters: folder.parameters,
  };
}

async function requireName(modelsDir: string, name: string): Promise<void> {
  // The pattern prevents path traversal.
  if (NAME_PATTERN.test(name) && (await isFolder(join(modelsDir, name)))) return;
  const names = await modelNames(modelsDir);
  const more = names.length > LISTED_NAMES ? ` and ${names.length - LISTED_NAMES} more` : '';
  const existing =
    names.length === 0
      ? 'This host has none: copy a folder in Hugging Face layout into the models folder.'
      : `This host has: ${names.slice(0, LISTED_NAMES).join(', ')}${more}.`;
  const shown = JSON.stringify(name.slice(0, 100));
  throw new ProductError('model_not_found', `There is no base model ${shown}. ${existing}`, { param: 'base_model' });
}

async function modelNames(modelsDir: string): Promise<string[]> {
  let entries: Dirent[];
  try {
    entries = await readdir(modelsDir, { withFileTypes: true });
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
  const names: string[] = [];
  for (const entry of entries) {
    if (!NAME_PATTERN.test(entry.name)) continue;
    // Models are often symbolic links to a larger disk.
    const linked = entry.isSymbolicLink() && (await isFolder(join(modelsDir, entry.name)));
    if (entry.isDirectory() || linked) names.push(entry.name);
  }
  return names.sort();
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isMissing(error) || (error as NodeJS.ErrnoException).code === 'ELOOP') return false;
    throw error;
  }
}

async function weightBytes(path: string): Promise<number> {
  let bytes = 0;
  try {
    for (const name of await readdir(path)) {
      if (name.endsWith('.safetensors')) bytes += (await stat(join(path, name))).size;
    }
  } catch {
    // The `problem` of the model says why the folder cannot be read.
  }
  return bytes;
}
