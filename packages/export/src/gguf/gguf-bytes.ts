import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelFolder } from '@lorasmith/model-folder';
import { mergedEntry } from '../merging/merged-source.js';
import { mergedLayout } from '../merging/plan-merge.js';
import { type GgufType, tensorBytes } from './gguf-layout.js';
import { planTensors, shapesOf } from './tensor-names.js';
import { typeOfExperts, typeOfTensor } from './write-gguf-model.js';

/** Name, shape, type, offset and padding of a tensor take less. */
const MAX_TENSOR_ENTRY_BYTES = 512;
/** Metadata besides the tokenizer. */
const MAX_SETTINGS_BYTES = 2 ** 16;

/**
 * The most bytes that the file of a merged model has: its weights exactly, its tokenizer at most.
 * @param modules those that the adapter adapts
 */
export async function maxGgufBytes(
  model: ModelFolder,
  modules: { has(module: string): boolean },
  wanted: GgufType,
): Promise<number> {
  const { path } = model;
  const { architecture, sources } = mergedLayout(model, modules);
  let bytes = MAX_SETTINGS_BYTES;
  if (architecture.kind === 'decoder') {
    for (const plan of planTensors(architecture, (tensor) => sources.has(tensor))) {
      const { experts } = plan;
      const source = sources.get(plan.source)!;
      bytes += MAX_TENSOR_ENTRY_BYTES;
      if (experts === null) {
        const shape = shapesOf(plan, mergedEntry(model, source).shape).written;
        bytes += tensorBytes({ shape, type: typeOfTensor(plan.name, shape, wanted) });
        continue;
      }
      const { shape } = experts;
      const isAdapted = modules.has(experts.parameter);
      bytes += tensorBytes({
        shape,
        type: typeOfExperts(plan.name, shape, model.quantized.get(source), isAdapted, wanted),
      });
    }
  }
  for (const name of await readdir(path)) {
    if (/^(tokenizer|tokenizer_config)\.json$|\.jinja$/.test(name)) bytes += (await stat(join(path, name))).size;
  }
  return bytes;
}
