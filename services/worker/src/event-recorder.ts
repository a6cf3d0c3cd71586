import type { EventData, NewJobEvent } from '@lorasmith/contracts';

// TensorBoard's event files: records of TFRecord, each an `Event` of tensorflow/core/util/event.proto. Only the few fields that are
// used here are written, so this is shorter than a library for protocol buffers.

/** One moment of a training. */
interface TensorboardEvent {
  /** Unix time in seconds. */
  wallTime: number;
  step: number;
  scalars: readonly (readonly [tag: string, value: number])[];
}

const FIELD = {
  event: { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 },
  summary: { value: 1 },
  value: { tag: 1, simpleValue: 2 },
  sessionLog: { status: 1 },
} as const;
const WIRE = { varint: 0, double: 1, bytes: 2, float: 5 } as const;
const SESSION_START = 1;
/** The version from which a start of a session purges what was logged for its step and later ones. */
const FILE_VERSION = 'brain.Event:2';

/** The first record of every file. */
export function versionRecord(wallTime: number): Buffer {
  return recordOf([doubleField(FIELD.event.wallTime, wallTime), textField(FIELD.event.fileVersion, FILE_VERSION)]);
}

/** Says that a training continues: TensorBoard drops what was logged of this step and later ones. */
export function sessionStartRecord(wallTime: number, step: number): Buffer {
  const session = varintField(FIELD.sessionLog.status, SESSION_START);
  return recordOf([
    doubleField(FIELD.event.wallTime, wallTime),
    varintField(FIELD.event.step, step),
    bytesField(FIELD.event.sessionLog, session),
  ]);
}

export function scalarsRecord({ wallTime, step, scalars }: TensorboardEvent): Buffer {
  const values = scalars.map(([tag, value]) =>
    bytesField(
      FIELD.summary.value,
      Buffer.concat([textField(FIELD.value.tag, tag), floatField(FIELD.value.simpleValue, value)]),
    ),
  );
  return recordOf([
    doubleField(FIELD.event.wallTime, wallTime),
    varintField(FIELD.event.step, step),
    bytesField(FIELD.event.summary, Buffer.concat(values)),
  ]);
}

/** TFRecord: length, its checksum, the bytes, their checksum; little-endian. */
function recordOf(fields: readonly Buffer[]): Buffer {
  const data = Buffer.concat(fields);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, checksum(length), data, checksum(data)]);
}

function checksum(bytes: Uint8Array): Buffer {
  const written = Buffer.alloc(4);
  written.writeUInt32LE(maskedCrc32c(bytes));
  return written;
}

function key(field: number, wire: number): Buffer {
  return varint((field << 3) | wire);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Buffer.from([...bytes, rest]);
}

function varintField(field: number, value: number): Buffer {
  return Buffer.concat([key(field, WIRE.varint), varint(value)]);
}

function doubleField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([key(field, WIRE.double), bytes]);
}

function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(field, WIRE.float), bytes]);
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([key(field, WIRE.bytes), varint(bytes.length), bytes]);
}

function textField(field: number, text: string): Buffer {
  return bytesField(field, Buffer.from(text));
}

/** A record of an event file that was written here, as it is in the file. */
interface EventRecord {
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
    records.push({ bytes: file.subarray(position, end), ...fieldsOf(data) });
    position = end;
  }
  return records;
}

/** Reads the fields of an `Event` that {@link EventRecord} has. */
function fieldsOf(data: Buffer): Pick<EventRecord, 'step' | 'kind'> {
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
    if (wire === WIRE.varint) {
      const value = varint();
      if (field === FIELD.event.step) step = value;
    } else if (wire === WIRE.double) position += 8;
    else if (wire === WIRE.float) position += 4;
    else {
      if (field === FIELD.event.summary) kind = 'scalars';
      if (field === FIELD.event.sessionLog) kind = 'session-start';
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

/** Castagnoli's polynomial, bits reversed. */
const POLYNOMIAL = 0x82f63b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value;
});

/** The CRC-32C of bytes, an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffff_ffff) >>> 0;
}

/** The checksum as TFRecord stores it: a checksum of bytes that have checksums within would be weak. */
function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282_ead8) >>> 0;
}

/** Steps are written at most this often: a small model makes hundreds a second. */
const STEP_INTERVAL_MS = 1_000;
/**
 * And at most after this share of the time so far, so that the stored events of a job reach back to its start: a day of
 * training writes 13,000 steps, a week 19,000.
 */
const SHARE_OF_TIME = 1 / 3_000;

interface EventRecorder {
  /** Writes the event after those before it, or skips it if it is one step among many. */
  add(event: NewJobEvent): void;
  /** Resolves when everything is written, also the newest step. */
  flush(): Promise<void>;
}

/**
 * Writes the events of a training in their order. Of the steps it writes the first, the last planned, the last before
 * another event or a flush, and between those one per interval, which grows with the time.
 */
export function createEventRecorder(options: {
  write: (event: NewJobEvent) => Promise<void>;
  onError: (error: unknown) => void;
  stepIntervalMs?: number;
  /** The time in milliseconds. */
  now?: () => number;
}): EventRecorder {
  const { write, onError, stepIntervalMs = STEP_INTERVAL_MS, now = () => performance.now() } = options;
  const startedAt = now();
  let written = Promise.resolve();
  let lastStepAt = Number.NEGATIVE_INFINITY;
  /** The newest step, where it was not written. */
  let skipped: NewJobEvent | null = null;

  // The last planned step does not wait for the next event, which may follow a long evaluation.
  const isDue = ({ step, total_steps: total }: EventData<'step-finished'>) =>
    step === total || now() - lastStepAt >= Math.max(stepIntervalMs, (now() - startedAt) * SHARE_OF_TIME);
  const append = (event: NewJobEvent) => {
    written = written.then(() => write(event)).catch(onError);
  };
  const appendStep = (step: NewJobEvent) => {
    lastStepAt = now();
    skipped = null;
    append(step);
  };
  const appendSkipped = () => {
    if (skipped !== null) appendStep(skipped);
  };

  return {
    add(event) {
      if (event.type !== 'step-finished') {
        appendSkipped();
        append(event);
      } else if (isDue(event.data)) {
        appendStep(event);
      } else {
        skipped = event;
      }
    },
    flush() {
      appendSkipped();
      return written;
    },
  };
}
