import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_FILES, ProductError } from '@lorasmith/contracts';
import { create } from 'tar';

const NAMES = [ADAPTER_FILES.config, ADAPTER_FILES.weights];

/**
 * Packs the two files of a PEFT folder into a plain tar. No other file of the folder is sent.
 * @throws ProductError `invalid_request` when one is missing
 */
export async function tarOfAdapter(folder: string): Promise<AsyncIterable<Uint8Array>> {
  for (const name of NAMES) {
    const found = await stat(join(folder, name)).catch(() => null);
    if (found?.isFile()) continue;
    const message = `${folder} has no ${name}; it must be a PEFT folder with safetensors weights.`;
    throw new ProductError('invalid_request', message, { param: 'folder' });
  }
  return create({ cwd: folder, portable: true }, NAMES) as AsyncIterable<Uint8Array>;
}
