import { parentPort, workerData } from 'node:worker_threads';
import { ModelTexts } from '@lorasmith/model-folder';
import type { Line } from '../json-lines.js';
import type { RowsOfModel } from '../objectives/objective.js';
import { objectiveOfKind } from '../objectives/objectives.js';
import { BatchConverter, type ConvertedBatch } from './batch-converter.js';

/** Given to a thread when it starts. */
export interface ThreadData {
  /** The kind of the objective whose examples it makes. */
  kind: string;
  rows: RowsOfModel;
}

/** Sent to a thread. */
export interface ThreadTask {
  id: number;
  /** A Buffer arrives as a Uint8Array. */
  lines: readonly { number: number; bytes: Uint8Array | null }[];
}

/** Sent by a thread: what becomes of a task; first of all, without an id, that it has loaded the tokenizer. */
export type ThreadMessage = { id: null } | { id: number; batch: ConvertedBatch };

const port = parentPort!;
const { kind, rows } = workerData as ThreadData;
const made = await objectiveOfKind(kind).createConverter(rows, new ModelTexts());
const converter = new BatchConverter(rows.dataset, made);
// A conversion that fails ends the thread: nothing handles the rejection.
port.on('message', (task: ThreadTask) => void convert(task));
port.postMessage({ id: null } satisfies ThreadMessage);

function lineOf({ number, bytes }: ThreadTask['lines'][number]): Line {
  return { number, bytes: bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}

async function convert({ id, lines }: ThreadTask): Promise<void> {
  const batch = await converter.convert(lines.map(lineOf));
  port.postMessage({ id, batch } satisfies ThreadMessage, [batch.records.buffer, batch.codes.buffer]);
}
