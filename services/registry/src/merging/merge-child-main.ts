import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { adapterCard, derivedCard } from '@lorasmith/artifacts';
import { answerParent } from '@lorasmith/child-processes';
import { ADAPTER_FILES, type AdapterFile, ProductError } from '@lorasmith/contracts';
import { mergeModel, modelfile, writeGgufAdapter, writeGgufModel } from '@lorasmith/export';
import {
  asTrained,
  baseMismatch,
  digestBase,
  type ModelFolder,
  readModelFolder,
  WeightDigests,
} from '@lorasmith/model-folder';
import { type PeftAdapter, perExpert, readPeftFolder, rowsOfGateUp, writePeftFolder } from '@lorasmith/peft-files';
import { digestFile } from '@lorasmith/storage';
import { ggufFileName, type MergeProgress, type MergeRequest } from './derived-form.js';

answerParent<MergeRequest, AdapterFile[], MergeProgress>('merge', merge);

async function merge(request: MergeRequest, report: (progress: MergeProgress) => void): Promise<AdapterFile[]> {
  const { manifest, form, outputFolder } = request;
  const adapter = await readPeftFolder(request.adapterFolder);
  const model = asTrained(await readModelFolder(request.modelFolder), manifest.base_model);
  const digests = new WeightDigests(request.weightDigests);
  const mismatch = baseMismatch(manifest.id, manifest.base_model, await digestBase(model, digests));
  if (mismatch !== null) throw new ProductError('conflict', mismatch);
  const onProgress = (doneBytes: number, totalBytes: number) => report({ doneBytes, totalBytes });
  const known = await writeForm(request, model, adapter, onProgress);
  const write = (name: string, text: string) => writeFile(join(outputFolder, name), text, { flag: 'wx', flush: true });
  const forOllama = await modelfileOf(request);
  if (forOllama !== null) await write('Modelfile', forOllama);
  const card = form.format === 'per-expert' ? adapterCard(manifest) : derivedCard(manifest, known[0]!.name);
  await write(ADAPTER_FILES.card, card);
  const files = new Map<string, AdapterFile>(known.map((file) => [file.name, file]));
  for (const name of await readdir(outputFolder)) {
    if (!files.has(name)) files.set(name, { name, ...(await digestFile(join(outputFolder, name))) });
  }
  return [...files.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Writes the files of a form. @returns those whose digests are known, weights first */
async function writeForm(
  request: MergeRequest,
  model: ModelFolder,
  adapter: PeftAdapter,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<AdapterFile[]> {
  const { form, outputFolder } = request;
  switch (form.format) {
    case 'safetensors':
      return await mergeModel({ model, adapter, outputFolder, onProgress });
    case 'gguf':
      return [await writeGguf(request, model, adapter, onProgress)];
    case 'per-expert': {
      await writePeftFolder(outputFolder, perExpert(adapter, rowsOfGateUp(model)), model);
      const { weights } = ADAPTER_FILES;
      return [{ name: weights, ...(await digestFile(join(outputFolder, weights))) }];
    }
  }
}

async function writeGguf(
  { manifest, form, outputFolder }: MergeRequest,
  model: ModelFolder,
  adapter: PeftAdapter,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<AdapterFile> {
  if (form.format !== 'gguf') throw new Error('not a GGUF form');
  const name = ggufFileName(manifest.id, form);
  // Not the adapter's own name: llama.cpp treats tokens by what is in this one.
  const description = { name: `${model.name} ${manifest.id}`, baseModel: model.name };
  const options = { model, adapter, path: join(outputFolder, name), type: form.type, description };
  const written = form.weights === 'adapter' ? writeGgufAdapter(options) : writeGgufModel({ ...options, onProgress });
  return { name, ...(await written) };
}

async function modelfileOf({ manifest, form, modelFolder }: MergeRequest): Promise<string | null> {
  if (form.format === 'per-expert') return null;
  if (form.format === 'safetensors') return await modelfile({ modelFolder, from: '.' });
  const file = `./${ggufFileName(manifest.id, form)}`;
  if (form.weights === 'merged') return await modelfile({ modelFolder, from: file });
  const base = manifest.base_model.name;
  return await modelfile({
    ...{ modelFolder, from: `./${base}.gguf`, adapter: file },
    comments: [
      `${base}.gguf is the base model, which is not in this folder. The name of a model in Ollama does as well.`,
    ],
  });
}
