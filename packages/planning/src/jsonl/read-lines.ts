import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { type Line, LineSplitter, MAX_LINE_BYTES } from './line-splitter.js';

const BLOCK_BYTES = 2 ** 18;

/**
 * Reads a JSONL file as lists of its lines that are not empty. Besides a list, at most one line is in memory.
 *
 * @param hash updated with every byte
 * @throws ProductError `dataset_not_found` when there is no such file.
 */
export async function* readLines(path: string, hash?: Hash): AsyncGenerator<Line[]> {
  const splitter = new LineSplitter(MAX_LINE_BYTES);
  try {
    for await (const block of createReadStream(path, { highWaterMark: BLOCK_BYTES }) as AsyncIterable<Buffer>) {
      hash?.update(block);
      yield [...splitter.push(block)];
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    const message = 'The rows of the dataset no longer exist. Upload it again.';
    throw new ProductError('dataset_not_found', message, { cause });
  }
  yield [...splitter.end()];
}
