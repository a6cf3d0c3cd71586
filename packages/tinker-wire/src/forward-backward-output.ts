import { aligned, MessageReader } from './message-reader.js';
import { bytesOf, MessageWriter } from './message-writer.js';
import { WireError } from './wire-error.js';

/** The number of float32 in `DType`. */
const FLOAT32 = 1;

export interface ForwardBackwardOutput {
  /** `[tokens * targetsEach]` of each datum */
  logProbabilities: readonly Float32Array[];
  /** Figures by `name:reduction`. */
  metrics: Readonly<Record<string, number>>;
  /** Targets of each position: of all data, or of each datum. @defaultValue 1 */
  targetsEach?: number | readonly number[];
}

/**
 * Encode a `ForwardBackwardOutput`: the log-probabilities as one record, or one for each run of data with as many targets.
 *
 * @throws {WireError} for a metric that the client cannot combine, and for sizes that disagree
 */
export function encodeForwardBackwardOutput({
  logProbabilities,
  metrics,
  targetsEach = 1,
}: ForwardBackwardOutput): Uint8Array {
  const writer = new MessageWriter().text(1, 'ArrayRecord');
  for (const { from, to, each } of runsOf(logProbabilities.length, targetsEach)) {
    writer.message(2, recordOf(logProbabilities.slice(from, to), each));
  }
  for (const [name, value] of Object.entries(metrics)) {
    // The client splits a name at its one colon.
    if (name.split(':').length !== 2) throw new WireError('metrics', `${name} is not name:reduction`);
    writer.message(3, new MessageWriter().text(1, name).double(2, value));
  }
  return writer.finish();
}

/** @returns an `ArrayRecord` with one `BatchedTensor`: its offsets are bytes */
function recordOf(logProbabilities: readonly Float32Array[], each: number): MessageWriter {
  const offsets = new BigInt64Array(logProbabilities.length + 1);
  let end = 0;
  for (const [index, { length, byteLength }] of logProbabilities.entries()) {
    if (length % each !== 0) throw new WireError('logprobs', `has ${length} numbers, and ${each} of each position`);
    end += byteLength;
    offsets[index + 1] = BigInt(end);
  }
  const data = new Uint8Array(end);
  for (const [index, numbers] of logProbabilities.entries()) data.set(bytesOf(numbers), Number(offsets[index]));
  const tensor = new MessageWriter()
    .bytes(1, data)
    .bytes(2, bytesOf(offsets))
    .integer(3, FLOAT32)
    .integers(4, each === 1 ? [] : [each]);
  return new MessageWriter()
    .text(1, 'ArrayRecord')
    .message(2, new MessageWriter().text(1, 'logprobs').message(2, tensor))
    .integer(3, logProbabilities.length);
}

/** The runs of data with the same number of targets. */
function runsOf(count: number, targetsEach: number | readonly number[]): { from: number; to: number; each: number }[] {
  if (typeof targetsEach === 'number') return [{ from: 0, to: count, each: targetsEach }];
  if (targetsEach.length !== count) {
    throw new WireError('logprobs', `has ${count} data, and targetsEach ${targetsEach.length}`);
  }
  const runs: { from: number; to: number; each: number }[] = [];
  for (const [index, each] of targetsEach.entries()) {
    const last = runs.at(-1);
    if (last?.each === each) last.to = index + 1;
    else runs.push({ from: index, to: index + 1, each });
  }
  return runs;
}

/**
 * Decode a `ForwardBackwardOutput`.
 *
 * @throws {WireError} for a body that is not one
 */
export function decodeForwardBackwardOutput(
  bytes: Uint8Array,
): Pick<ForwardBackwardOutput, 'logProbabilities' | 'metrics'> {
  const reader = new MessageReader(bytes, 'output');
  const logProbabilities: Float32Array[] = [];
  const metrics: Record<string, number> = {};
  while (reader.next()) {
    if (reader.field === 2) logProbabilities.push(...readRecord(reader.message('record')));
    else if (reader.field === 3) {
      const [name, value] = readMetric(reader.message('metrics'));
      metrics[name] = value;
    } else reader.skip();
  }
  return { logProbabilities, metrics };
}

/** Read the log-probabilities of each datum of an `ArrayRecord`. */
function readRecord(record: MessageReader): Float32Array[] {
  const found: Float32Array[] = [];
  while (record.next()) {
    if (record.field === 2) {
      const entry = record.message('record');
      let name = '';
      while (entry.next()) {
        if (entry.field === 1) name = entry.text('record');
        else if (entry.field === 2 && name === 'logprobs') found.push(...readTensor(entry.message(name)));
        else entry.skip();
      }
    } else record.skip();
  }
  return found;
}

/** Read a `BatchedTensor` of float32. */
function readTensor(tensor: MessageReader): Float32Array[] {
  let data: Uint8Array = new Uint8Array();
  let offsets = new BigInt64Array();
  while (tensor.next()) {
    if (tensor.field === 1) data = tensor.bytes('logprobs');
    else if (tensor.field === 2) offsets = new BigInt64Array(...aligned(tensor.bytes('offsets'), 8));
    else tensor.skip();
  }
  const at = Array.from(offsets, Number);
  if (at.at(-1) !== data.length) throw new WireError('offsets', `must end at ${data.length}`);
  return at.slice(1).map((end, index) => new Float32Array(...aligned(data.subarray(at[index], end), 4)));
}

function readMetric(entry: MessageReader): [string, number] {
  const metric: [string, number] = ['', 0];
  while (entry.next()) {
    if (entry.field === 1) metric[0] = entry.text('metrics');
    else if (entry.field === 2) metric[1] = entry.double('metrics');
    else entry.skip();
  }
  return metric;
}
