import { on } from 'node:events';
import type { MessagePort } from 'node:worker_threads';
import { type ColumnMapping, linesOfText } from '@lorasmith/row-files';
import { answering, type ThreadAnswer } from '../threads.js';
import { DatasetChecker, type DatasetLimits, type DatasetSummary, orNothingStored } from './dataset-checker.js';

// What the api runs in the threads that check rows: each function is a task, called by its name.

export interface CheckTask {
  /**
   * Brings the text of the file, block by block, and null after the last one. Takes the rows to store of each block but the last: a
   * message for each, once the block is checked; and {@link LONG_RECORD}. Closed by the api if nobody waits for the answer any more.
   */
  port: MessagePort;
  limits: DatasetLimits;
  /** The columns of the file that rows have; undefined: those with the names of a row. */
  columns: ColumnMapping | undefined;
}

/** The message of a CSV file that has a long row: its parser takes twice the memory of its longest row, and more. */
export const LONG_RECORD = 'long record';

/** Properties of a dataset of which everything is checked, and the rows that are still to be stored. */
export interface Checked {
  summary: DatasetSummary;
  rows: Uint8Array;
}

/** Does nothing: the thread has started. */
export function ready(): void {}

/** Checks the rows of an upload. Several are checked at once, a block of each at a time. */
export async function check({ port, limits, columns }: CheckTask): Promise<ThreadAnswer<Checked>> {
  const checker = new DatasetChecker(limits, columns);
  let stored: Buffer[] = [];
  const takeStored = () => {
    const rows = joined(stored);
    stored = [];
    return rows;
  };
  const onLongRecord = () => port.postMessage(LONG_RECORD);
  const { maxLineBytes } = limits;
  const options = { columns: columns ?? ('of-rows' as const), maxLineBytes, onLongRecord };
  try {
    return await answering(async () => {
      const text = contentFrom(port, () => port.postMessage(takeStored()));
      for await (const lines of orNothingStored(linesOfText(text, options))) {
        stored.push(checker.push(lines));
        if (checker.isDecided) return { summary: checker.finish(), rows: takeStored() };
      }
      stored.push(checker.end());
      return { summary: checker.finish(), rows: takeStored() };
    });
  } finally {
    port.close();
  }
}

/** The blocks that the api sends. The next one is asked for when this one is checked. */
async function* contentFrom(port: MessagePort, onChecked: () => void): AsyncGenerator<Buffer> {
  for await (const [block] of on(port, 'message', { close: ['close'] })) {
    if (block === null) return;
    yield Buffer.from((block as Uint8Array).buffer);
    onChecked();
  }
  throw new Error('the api has ended the check');
}

/** The bytes in memory of their own, which can go to another thread. */
function joined(buffers: readonly Buffer[]): Uint8Array {
  const bytes = new Uint8Array(buffers.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const buffer of buffers) {
    bytes.set(buffer, at);
    at += buffer.length;
  }
  return bytes;
}
