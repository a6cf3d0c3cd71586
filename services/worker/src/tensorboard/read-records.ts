import { maskedCrc32c } from './crc32c.js';

/** A record of an event file that was written here, as it is in the file. */
export interface EventRecord {
  /** All bytes, with length and checksums. */
  bytes: Buffer;
  /** 0 where the event has none. */
  step: number;
  kind: 'version' | 'session-start' | 'scalars';
}

const HEAD_BYTES = 12;
const TAIL_BYTES = 4;

/** The records of a file. A last one that is not complete, because its writer died, is left out; so is what follows a damaged one. */
export function readRecords(file: Buffer): EventRecord[] {
  const records: EventRecord[] = [];
  let position = 0;
  while (position + HEAD_BYTES <= file.length) {
    const length = Number(file.readBigUInt64LE(position));
    const end = position + HEAD_BYTES + length + TAIL_BYTES;
    if (end > file.length) break;
    const data = file.subarray(position + HEAD_BYTES, end - TAIL_BYTES);
    if (maskedCrc32c(data) !== file.readUInt32LE(end - TAIL_BYTES)) break;
    records.push({ bytes: file.subarray(position, end), ...describe(data) });
    position = end;
  }
  return records;
}

/** Reads the fields of an `Event` that {@link EventRecord} has. */
function describe(data: Buffer): Pick<EventRecord, 'step' | 'kind'> {
  let step = 0;
  let kind: EventRecord['kind'] = 'version';
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; position < data.length; factor *= 0x80) {
      const byte = data[position++]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (position < data.length) {
    const key = varint();
    const [field, wire] = [key >>> 3, key & 7];
    if (wire === 0) {
      const value = varint();
      if (field === 2) step = value;
    } else if (wire === 1) position += 8;
    else if (wire === 5) position += 4;
    else {
      if (field === 5) kind = 'scalars';
      if (field === 7) kind = 'session-start';
      const length = varint();
      position += length;
    }
  }
  return { step, kind };
}

/**
 * The records of several files of one training, in their order, as one file: without what was trained again from a checkpoint.
 * @param most - Of those with scalars; of more, evenly spaced ones are left.
 */
export function mergeRecords(files: readonly Buffer[], most: number): Buffer {
  let version: Buffer | null = null;
  let kept: EventRecord[] = [];
  for (const file of files) {
    for (const record of readRecords(file)) {
      if (record.kind === 'version') version ??= record.bytes;
      else if (record.kind === 'scalars') kept.push(record);
      else kept = kept.filter(({ step }) => step < record.step);
    }
  }
  const every = Math.ceil(kept.length / most);
  const left = every <= 1 ? kept : kept.filter((_, index) => index % every === 0 || index === kept.length - 1);
  return Buffer.concat([...(version === null ? [] : [version]), ...left.map(({ bytes }) => bytes)]);
}
