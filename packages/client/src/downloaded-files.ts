import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';

/**
 * Compares the files of a downloaded folder with the digests of the registry.
 *
 * @throws ProductError `invalid_adapter` naming the first file that is missing or differs
 */
export async function checkDownloadedFiles(folder: string, expected: AdapterFile[]): Promise<void> {
  for (const { name, sha256 } of expected) {
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, name)), hash).catch((cause: unknown) => {
      throw new ProductError('invalid_adapter', `${name} is missing from the download.`, { cause });
    });
    if (hash.digest('hex') !== sha256) {
      throw new ProductError(
        'invalid_adapter',
        `${name} is damaged: its sha256 differs from the registry's. Download it again.`,
      );
    }
  }
}
