import path from 'node:path';
import type { BundleStore } from '@lorasmith/storage';

const UPLOADED = 'uploaded';

/**
 * The content of an uploaded file, which is staged meanwhile: its sender need not wait for the reading, and is noticed when it leaves. Errors of
 * `chunks` and of `read`.
 */
export async function* fromStagedFile(
  chunks: AsyncIterable<Buffer>,
  store: Pick<BundleStore, 'stage'>,
  read: (file: string) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const staging = await store.stage();
  try {
    await staging.write(UPLOADED, chunks);
    yield* read(path.join(staging.path, UPLOADED));
  } finally {
    await staging.discard();
  }
}
