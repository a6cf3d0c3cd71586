import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { type Line, LineSplitter, MAX_LINE_BYTES, NEWLINE } from './line-splitter.js';

const BLOCK_BYTES = 2 ** 18;

/**
 * Reads a JSONL file as lists of its lines that are not empty. Besides a list, at most one line is in memory.
 *
 * @param options `hash`: updated with every byte that is read; `after`: only lines after this one are read
 * @throws ProductError `dataset_not_found` when there is no such file.
 */
export async function* readLines(
  path: string,
  { hash, after = 0 }: { hash?: Hash; after?: number } = {},
): AsyncGenerator<Line[]> {
  const splitter = new LineSplitter(MAX_LINE_BYTES, after);
  try {
    const start = after === 0 ? 0 : await endOfLine(path, after);
    for await (const block of blocksOf(path, start)) {
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

function blocksOf(path: string, start: number): AsyncIterable<Buffer> {
  return createReadStream(path, { start, highWaterMark: BLOCK_BYTES });
}

/** The position behind a line, or the end of the file if it has fewer. Much faster than making lines of the bytes. */
async function endOfLine(path: string, line: number): Promise<number> {
  let [position, lines] = [0, 0];
  for await (const block of blocksOf(path, 0)) {
    for (let end = block.indexOf(NEWLINE); end !== -1; end = block.indexOf(NEWLINE, end + 1)) {
      lines++;
      if (lines === line) return position + end + 1;
    }
    position += block.length;
  }
  return position;
}
