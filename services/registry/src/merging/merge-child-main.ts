import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import { mergeModel, readPeftFolder } from '@lorasmith/lora';
import { digestWeights, readModelFolder } from '@lorasmith/model-folder';
import { asStorageError, digestFile } from '@lorasmith/storage';
import type { MergeMessage, MergeRequest } from './merge-messages.js';

/** Progress is for the log: a few messages a second at most. */
const PROGRESS_INTERVAL_MS = 500;

// The registry is gone: nobody would take the result.
process.on('disconnect', () => process.exit(1));
process.once('message', (request: MergeRequest) => {
  void answer(request).then((message) => process.send!(message, () => process.exit(0)));
});

async function answer(request: MergeRequest): Promise<MergeMessage> {
  try {
    return { type: 'merged', files: await merge(request) };
  } catch (error) {
    const known = asStorageError(error);
    if (known instanceof ProductError) return { type: 'failed', code: known.code, message: known.message };
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    return { type: 'failed', code: 'internal_error', message: 'The merge failed; the log of the registry says why.' };
  }
}

async function merge(request: MergeRequest): Promise<AdapterFile[]> {
  const adapter = await readPeftFolder(request.adapterFolder);
  const model = await readModelFolder(request.modelFolder);
  checkWeights(request, model.name, await digestWeights(model));
  let reportedAtMs = Number.NEGATIVE_INFINITY;
  await mergeModel({
    model,
    adapter,
    outputFolder: request.outputFolder,
    onProgress: (doneBytes, totalBytes) => {
      if (performance.now() - reportedAtMs < PROGRESS_INTERVAL_MS) return;
      reportedAtMs = performance.now();
      process.send!({ type: 'progress', doneBytes, totalBytes } satisfies MergeMessage);
    },
  });
  const files: AdapterFile[] = [];
  for (const name of (await readdir(request.outputFolder)).sort()) {
    files.push({ name, ...(await digestFile(join(request.outputFolder, name))) });
  }
  return files;
}

function checkWeights(request: MergeRequest, modelName: string, found: string): void {
  if (found === request.weightsSha256) return;
  const message =
    `The base model ${modelName} on this host is not the one that ${request.adapter} was trained on: its weights have ` +
    `the sha256 ${found}, the adapter needs ${request.weightsSha256}. Put the original weights back.`;
  throw new ProductError('conflict', message);
}
