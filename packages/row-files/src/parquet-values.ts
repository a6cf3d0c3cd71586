import { isUtf8 } from 'node:buffer';
import type { FileMetaData, SchemaElement, SchemaTree, TimeUnit } from 'hyparquet';
import { parseFloat16 } from 'hyparquet/src/convert.js';
import { isListLike, isMapLike } from 'hyparquet/src/schema.js';
import { jsonLine } from './json-line.js';

/** The JSON of a value, with every digit that it has in the file; undefined for null. @throws ParquetValueError */
export type ValueJson = (value: unknown) => string | undefined;

/** A value, or a type of values, without an exact form in JSON. The message names it. */
export class ParquetValueError extends Error {}

/** Arrow's decimals have at most 256 bits and 76 digits. */
const MAX_DECIMAL_BYTES = 32;
const MAX_DECIMAL_SCALE = 76;
/** The digits of a part of a second in each unit of time. */
const FRACTION_DIGITS: Readonly<Record<TimeUnit, number>> = { MILLIS: 3, MICROS: 6, NANOS: 9 };
const SECONDS_PER_DAY = 86_400n;
const TEXT_TYPES: ReadonlySet<string> = new Set(['STRING', 'UTF8']);

/**
 * The description of a file with which the library leaves values as they are stored, but for texts. It would make numbers of JavaScript and
 * dates of milliseconds, which lose digits; {@link jsonOfColumn} makes JSON.
 */
export function withStoredValues(metadata: FileMetaData): FileMetaData {
  const schema = metadata.schema.map((element) => {
    if (element.type === undefined || TEXT_TYPES.has(typeOf(element))) return element;
    const { converted_type, logical_type, ...stored } = element;
    return stored;
  });
  return { ...metadata, schema };
}

/** Parsers for what the library parses all the same. */
export const STORED_VALUES = {
  stringFromBytes: (bytes: Uint8Array) => (bytes && isUtf8(bytes) ? Buffer.from(bytes).toString() : bytes),
  timestampFromNanoseconds: (nanoseconds: bigint) => nanoseconds,
};

/**
 * The JSON of the values of a column, by its part of the schema before {@link withStoredValues}.
 * @throws ParquetValueError for a type that is not read
 */
export function jsonOfColumn(column: SchemaTree): ValueJson {
  const one = jsonOfOne(column);
  return column.element.repetition_type === 'REPEATED' ? listOf(one) : one;
}

/** The JSON of an object. What is null is absent. */
export function jsonObject(members: readonly (readonly [name: string, json: string | undefined])[]): string {
  const present = members.filter(([, json]) => json !== undefined);
  return `{${present.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(',')}}`;
}

function jsonOfOne(node: SchemaTree): ValueJson {
  const { element, children } = node;
  if (children.length === 0) return jsonOfLeaf(element);
  if (element.logical_type?.type === 'VARIANT' || element.logical_type?.type === 'FILE') throw notRead(element);
  if (isListLike(node)) {
    const [repeated] = children as [SchemaTree];
    return listOf(repeated.children.length === 1 ? jsonOfColumn(repeated.children[0]!) : jsonOfOne(repeated));
  }
  if (isMapLike(node)) return jsonOfMap(children[0]!);
  const fields = children.map((child) => [child.element.name, jsonOfColumn(child)] as const);
  return orNull((value: Record<string, unknown>) =>
    jsonObject(fields.map(([name, json]) => [name, json(value[name])] as const)),
  );
}

function listOf(item: ValueJson): ValueJson {
  return orNull((values: unknown[]) => `[${values.map((value) => item(value) ?? 'null').join(',')}]`);
}

/** The library makes an object of a map before its keys are seen, so only those are read whose names are exact. */
function jsonOfMap({ children }: SchemaTree): ValueJson {
  const [key, value] = children as [SchemaTree, SchemaTree];
  const type = typeOf(key.element);
  if (!TEXT_TYPES.has(type) && !/^INT(32|64|_\d+)$/.test(type)) {
    throw new ParquetValueError(`a map whose keys are of the type ${type}`);
  }
  const json = jsonOfColumn(value);
  return orNull((map: object) => jsonObject(Object.entries(map).map(([name, one]) => [name, json(one)] as const)));
}

function orNull<Value>(json: (value: Value) => string): ValueJson {
  return (value) => (value === null || value === undefined ? undefined : json(value as Value));
}

/** The type of a leaf: what its values mean, or else how they are stored. */
function typeOf({ type, converted_type: converted, logical_type: logical }: SchemaElement): string {
  if (logical?.type === 'INTEGER') return `${logical.isSigned ? '' : 'U'}INT_${logical.bitWidth}`;
  return logical?.type ?? converted ?? type ?? 'unknown';
}

function notRead(element: SchemaElement): ParquetValueError {
  return new ParquetValueError(`values of the type ${typeOf(element)}`);
}

function jsonOfLeaf(element: SchemaElement): ValueJson {
  const { logical_type: logical } = element;
  switch (typeOf(element)) {
    case 'STRING':
    case 'UTF8':
    case 'ENUM':
    case 'BYTE_ARRAY':
    case 'FIXED_LEN_BYTE_ARRAY':
      return orNull(jsonOfText);
    case 'JSON':
      return orNull(jsonOfJson);
    case 'UUID':
      return orNull(jsonOfUuid);
    case 'NULL':
    case 'BOOLEAN':
    case 'INT32':
    case 'INT64':
    case 'INT_8':
    case 'INT_16':
    case 'INT_32':
    case 'INT_64':
      return orNull(String);
    case 'UINT_8':
    case 'UINT_16':
    case 'UINT_32':
      return orNull((value: number) => String(value >>> 0));
    case 'UINT_64':
      return orNull((value: bigint) => String(BigInt.asUintN(64, value)));
    case 'FLOAT':
      return orNull((value: number) => jsonOfFloat(value, Math.fround));
    case 'DOUBLE':
      return orNull((value: number) => jsonOfFloat(value, (one) => one));
    case 'FLOAT16':
      return orNull((value: Uint8Array) => jsonOfFloat(parseFloat16(value)!, roundToFloat16));
    case 'DECIMAL':
      return jsonOfDecimal(element);
    case 'DATE':
      return orNull((days: number) => JSON.stringify(momentOf(BigInt(days) * SECONDS_PER_DAY).split('T')[0]));
    case 'TIMESTAMP':
      return jsonOfMoment(logical?.type === 'TIMESTAMP' ? logical : { unit: 'MILLIS', isAdjustedToUTC: true });
    case 'TIMESTAMP_MILLIS':
      return jsonOfMoment({ unit: 'MILLIS', isAdjustedToUTC: true });
    case 'TIMESTAMP_MICROS':
      return jsonOfMoment({ unit: 'MICROS', isAdjustedToUTC: true });
    case 'INT96':
      return jsonOfMoment({ unit: 'NANOS', isAdjustedToUTC: true });
    case 'TIME':
      return jsonOfTime(logical?.type === 'TIME' ? logical.unit : 'MILLIS');
    case 'TIME_MILLIS':
      return jsonOfTime('MILLIS');
    case 'TIME_MICROS':
      return jsonOfTime('MICROS');
    default:
      throw notRead(element);
  }
}

/** Bytes that are no text are a list of numbers. */
function jsonOfText(value: string | Uint8Array): string {
  if (typeof value === 'string') return JSON.stringify(value);
  return isUtf8(value) ? JSON.stringify(Buffer.from(value).toString()) : JSON.stringify([...value]);
}

function jsonOfJson(bytes: Uint8Array): string {
  const json = jsonLine(Buffer.from(bytes).toString());
  if (json === null) throw new ParquetValueError('a text that is no JSON');
  return json;
}

function jsonOfUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return `"${hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.*)$/, '$1-$2-$3-$4-$5')}"`;
}

/** The shortest digits that `round` makes the value of again: 0.1 for the float32 that is 0.10000000149011612. */
function jsonOfFloat(value: number, round: (value: number) => number): string {
  if (!Number.isFinite(value)) throw new ParquetValueError(String(value));
  if (Object.is(value, -0)) return '-0';
  const exact = String(value);
  // Whole numbers keep all digits, and so few are the shortest in any precision.
  if (Number.isSafeInteger(value) || exact.length <= 5) return exact;
  const holds = (digits: number) => round(Number(value.toPrecision(digits))) === value;
  let digits = 6;
  if (holds(digits)) while (digits > 1 && holds(digits - 1)) digits--;
  else while (digits < 17 && !holds(digits)) digits++;
  return String(Number(value.toPrecision(digits)));
}

/** The nearest number of float16, the even one of two. */
function roundToFloat16(value: number): number {
  const step = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(value))), -14) - 10);
  const steps = value / step;
  return (Math.abs(steps % 1) === 0.5 ? 2 * Math.round(steps / 2) : Math.round(steps)) * step;
}

function jsonOfDecimal({ scale, logical_type: logical }: SchemaElement): ValueJson {
  const digits = scale ?? (logical?.type === 'DECIMAL' ? logical.scale : 0) ?? 0;
  if (!(digits >= 0 && digits <= MAX_DECIMAL_SCALE)) {
    throw new ParquetValueError(`decimals with ${digits} digits after the point`);
  }
  return orNull((value: number | bigint | Uint8Array) => {
    const whole = typeof value === 'object' ? wholeOfBytes(value) : BigInt(value);
    const text = String(whole < 0n ? -whole : whole).padStart(digits + 1, '0');
    const point = text.length - digits;
    return `${whole < 0n ? '-' : ''}${text.slice(0, point)}${digits === 0 ? '' : `.${text.slice(point)}`}`;
  });
}

/** A number in two's complement, the highest byte first. */
function wholeOfBytes(bytes: Uint8Array): bigint {
  if (bytes.length > MAX_DECIMAL_BYTES) throw new ParquetValueError(`a decimal of ${bytes.length} bytes`);
  return BigInt.asIntN(8 * bytes.length, BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`));
}

function jsonOfMoment({ unit, isAdjustedToUTC }: { unit: TimeUnit; isAdjustedToUTC: boolean }): ValueJson {
  return orNull((ticks: number | bigint) => {
    const { seconds, fraction } = secondsOf(BigInt(ticks), unit);
    // Without a zone, it is the time of some place.
    return JSON.stringify(`${momentOf(seconds)}.${fraction}${isAdjustedToUTC ? 'Z' : ''}`);
  });
}

function jsonOfTime(unit: TimeUnit): ValueJson {
  return orNull((ticks: number | bigint) => {
    const { seconds, fraction } = secondsOf(BigInt(ticks), unit);
    if (seconds < 0n || seconds >= SECONDS_PER_DAY) throw new ParquetValueError('a time beyond a day');
    return JSON.stringify(`${momentOf(seconds).split('T')[1]}.${fraction}`);
  });
}

function secondsOf(ticks: bigint, unit: TimeUnit): { seconds: bigint; fraction: string } {
  const digits = FRACTION_DIGITS[unit];
  const perSecond = 10n ** BigInt(digits);
  const part = ((ticks % perSecond) + perSecond) % perSecond;
  return { seconds: (ticks - part) / perSecond, fraction: String(part).padStart(digits, '0') };
}

/** Date and time in UTC, to the second. */
function momentOf(seconds: bigint): string {
  const date = new Date(Number(seconds) * 1_000);
  if (Number.isNaN(date.getTime())) throw new ParquetValueError('a date that is too far away');
  return date.toISOString().slice(0, -'.000Z'.length);
}
