import { createReadStream } from 'node:fs';
import { openModelWeights, readModelFolder } from '../../packages/model-folder/dist/index.js';
import { loadDecoder } from '../../packages/models/dist/index.js';

/**
 * Bytes per second of loading a base model, beside a plain read of the same files. The page cache is warm in both.
 *
 * @param {{ model: string, precision: 'float32' | 'bfloat16' }} options
 */
export async function measure({ model, precision }) {
  const folder = await readModelFolder(model);
  const weights = await openModelWeights(folder);
  await weights.close();
  const plain = async () => {
    for (const { path } of folder.files) for await (const _ of createReadStream(path, { highWaterMark: 2 ** 20 }));
  };
  await plain();
  const plainSeconds = await timed(plain);
  const loadSeconds = await timed(async () => {
    (await loadDecoder(folder, precision)).dispose();
  });
  return {
    bytes: folder.weightBytes,
    plain_bytes_per_second: folder.weightBytes / plainSeconds,
    load_bytes_per_second: folder.weightBytes / loadSeconds,
  };
}

/** @param {() => Promise<void>} work */
async function timed(work) {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1e3;
}
