import { maskedCrc32c } from './crc32c.js';

// TensorBoard's event files: records of TFRecord, each an `Event` of tensorflow/core/util/event.proto. Only the few fields that are
// used here are written, so this is shorter than a library for protocol buffers.

/** One moment of a training. */
export interface TensorboardEvent {
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
