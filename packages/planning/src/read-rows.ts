import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';

/** A longer line is not read. Upload refuses lines far below this. */
export const MAX_LINE_BYTES = 16 * 2 ** 20;

const NEWLINE = 0x0a;

/** A line of a JSONL file that is not blank: what it holds, or what is wrong with it. */
export type RawRow = { line: number; value: unknown } | { line: number; fault: string };

/**
 * Reads a JSONL file line by line; never more than a line of it is in memory.
 *
 * @param hash updated with every byte
 * @throws ProductError `dataset_not_found` when there is no such file.
 */
export async function* readRows(path: string, hash?: Hash): AsyncGenerator<RawRow> {
  let line = 0;
  for await (const bytes of linesOf(path, hash)) {
    line++;
    if (bytes === null) {
      yield { line, fault: `The line is longer than ${MAX_LINE_BYTES} bytes.` };
      continue;
    }
    let text: string;
    try {
      // A decoder made anew drops a byte order mark; only the file's first line may have one.
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: line > 1 }).decode(bytes);
    } catch {
      yield { line, fault: 'The line is not valid UTF-8.' };
      continue;
    }
    if (text.trim() === '') continue;
    try {
      yield { line, value: JSON.parse(text) };
    } catch (error) {
      yield { line, fault: `The line is not valid JSON: ${(error as Error).message.slice(0, 200)}.` };
    }
  }
}

/** The lines of a file without their ends; null for one that is too long. */
async function* linesOf(path: string, hash: Hash | undefined): AsyncGenerator<Uint8Array | null> {
  let parts: Buffer[] = [];
  let partsBytes = 0;
  const take = (part: Buffer) => {
    partsBytes += part.length;
    if (partsBytes <= MAX_LINE_BYTES) parts.push(part);
    else parts = [];
  };
  const finish = () => {
    const line = partsBytes > MAX_LINE_BYTES ? null : Buffer.concat(parts);
    parts = [];
    partsBytes = 0;
    return line;
  };
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      hash?.update(chunk);
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
        take(chunk.subarray(start, end));
        yield finish();
        start = end + 1;
      }
      take(chunk.subarray(start));
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new ProductError('dataset_not_found', 'The rows of the dataset are no longer there. Upload it again.', {
      cause,
    });
  }
  if (partsBytes > 0) yield finish();
}
