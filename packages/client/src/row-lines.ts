import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { ProductError } from '@lorasmith/contracts';
import { type ColumnChoice, linesOfFile, linesOfParquet, unzstd } from '@lorasmith/row-files';

const MAX_LINE_BYTES = 2 ** 26;

/**
 * The rows of a file as JSONL: of a JSON array, CSV, Parquet or JSONL, also compressed with gzip or zstd.
 * @throws ProductError `invalid_request` if there is no file; `invalid_dataset` for one that cannot be read
 */
export async function* rowLinesOf(source: string, columns: ColumnChoice): AsyncGenerator<Buffer> {
  const file = await open(source).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${source}: ${cause.message}`, { param: 'file', cause });
  });
  try {
    yield* linesOfFile(createReadStream(source), {
      columns,
      maxBytes: Number.POSITIVE_INFINITY,
      maxLineBytes: MAX_LINE_BYTES,
      unzstd,
      linesOfParquet: () => linesOfParquet(file, { columns, maxRows: Number.POSITIVE_INFINITY }),
    });
  } finally {
    await file.close();
  }
}
