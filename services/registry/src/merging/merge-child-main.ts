import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import { answerParent } from '@lorasmith/engine-host';
import { mergeModel } from '@lorasmith/lora';
import { baseMismatch, digestBase, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import { readPeftFolder } from '@lorasmith/peft-files';
import { digestFile } from '@lorasmith/storage';
import type { MergeProgress, MergeRequest } from './merge-messages.js';

/** Progress is only logged, so it is reported at most twice a second. */
const PROGRESS_INTERVAL_MS = 500;

answerParent<MergeRequest, AdapterFile[], MergeProgress>('merge', merge);

async function merge(request: MergeRequest, report: (progress: MergeProgress) => void): Promise<AdapterFile[]> {
  const adapter = await readPeftFolder(request.adapterFolder);
  const model = await readModelFolder(request.modelFolder);
  const digests = new WeightDigests(request.weightDigests);
  const mismatch = baseMismatch(request.adapter, request.base, await digestBase(model, digests));
  if (mismatch !== null) throw new ProductError('conflict', mismatch);
  let reportedAtMs = Number.NEGATIVE_INFINITY;
  await mergeModel({
    model,
    adapter,
    outputFolder: request.outputFolder,
    onProgress: (doneBytes, totalBytes) => {
      if (performance.now() - reportedAtMs < PROGRESS_INTERVAL_MS) return;
      reportedAtMs = performance.now();
      report({ doneBytes, totalBytes });
    },
  });
  const files: AdapterFile[] = [];
  for (const name of (await readdir(request.outputFolder)).sort()) {
    files.push({ name, ...(await digestFile(join(request.outputFolder, name))) });
  }
  return files;
}
