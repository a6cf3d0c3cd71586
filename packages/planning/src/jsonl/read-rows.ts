import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { type Line, LineSplitter, MAX_LINE_BYTES, textOfLine } from './line-splitter.js';

/** A line of a JSONL file that is not blank: what it holds, or what is wrong with it. */
export type RawRow = { line: number; fault: null; value: unknown } | { line: number; fault: string };

/**
 * Reads a JSONL file line by line; never more than a line of it is in memory.
 *
 * @param hash updated with every byte
 * @throws ProductError `dataset_not_found` when there is no such file.
 */
export async function* readRows(path: string, hash?: Hash): AsyncGenerator<RawRow> {
  for await (const { number: line, bytes } of linesOf(path, hash)) {
    if (bytes === null) {
      yield { line, fault: `The line is longer than ${MAX_LINE_BYTES} bytes.` };
      continue;
    }
    const text = textOfLine(line, bytes);
    if (text === null) yield { line, fault: 'The line is not valid UTF-8.' };
    if (text === null || text === '') continue;
    try {
      yield { line, fault: null, value: JSON.parse(text) };
    } catch (error) {
      yield { line, fault: `The line is not valid JSON: ${(error as Error).message.slice(0, 200)}.` };
    }
  }
}

async function* linesOf(path: string, hash: Hash | undefined): AsyncGenerator<Line> {
  const splitter = new LineSplitter(MAX_LINE_BYTES);
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      hash?.update(chunk);
      yield* splitter.push(chunk);
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    const message = 'The rows of the dataset no longer exist. Upload it again.';
    throw new ProductError('dataset_not_found', message, { cause });
  }
  yield* splitter.end();
}
