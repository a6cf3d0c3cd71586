import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { answerParent, childOutput } from '@lorasmith/child-processes';
import { bounded } from '@lorasmith/contracts';
import { linesOfParquet, unzstd } from '@lorasmith/row-files';
import type { FileReading } from './bounded-reader.js';

answerParent<FileReading, null>('reading of the file', async (reading) => {
  const content = bounded(contentOf(reading), reading.maxBytes, 'unpacked file');
  await pipeline(content, childOutput());
  return null;
});

async function* contentOf({ form, file, columns, maxRows }: FileReading): AsyncGenerator<Buffer> {
  if (form === 'zstd') return yield* unzstd(createReadStream(file));
  const handle = await open(file);
  try {
    yield* linesOfParquet(handle, { columns, maxRows });
  } finally {
    await handle.close();
  }
}
