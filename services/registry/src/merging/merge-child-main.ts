import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import { answerParent } from '@lorasmith/engine-host';
import { mergeModel } from '@lorasmith/merging';
import { baseMismatch, digestBase, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import { readPeftFolder } from '@lorasmith/peft-files';
import { digestFile } from '@lorasmith/storage';
import type { MergeProgress, MergeRequest } from './merge-messages.js';

answerParent<MergeRequest, AdapterFile[], MergeProgress>('merge', merge);

async function merge(request: MergeRequest, report: (progress: MergeProgress) => void): Promise<AdapterFile[]> {
  const adapter = await readPeftFolder(request.adapterFolder);
  const model = await readModelFolder(request.modelFolder);
  const digests = new WeightDigests(request.weightDigests);
  const mismatch = baseMismatch(request.adapter, request.base, await digestBase(model, digests));
  if (mismatch !== null) throw new ProductError('conflict', mismatch);
  const weights = await mergeModel({
    model,
    adapter,
    outputFolder: request.outputFolder,
    onProgress: (doneBytes, totalBytes) => report({ doneBytes, totalBytes }),
  });
  const files = new Map<string, AdapterFile>(weights.map((file) => [file.name, file]));
  for (const name of await readdir(request.outputFolder)) {
    if (!files.has(name)) files.set(name, { name, ...(await digestFile(join(request.outputFolder, name))) });
  }
  return [...files.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}
