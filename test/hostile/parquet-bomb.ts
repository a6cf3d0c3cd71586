/** A field of a struct in Thrift's compact protocol: its number, its type and its bytes. */
type Field = readonly [id: number, type: number, bytes: Buffer];

const I32 = 5;
const I64 = 6;
const BINARY = 8;
const LIST = 9;
const STRUCT = 12;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

const i32 = (id: number, value: number): Field => [id, I32, varint(2 * value)];
const i64 = (id: number, value: number): Field => [id, I64, varint(2 * value)];
const text = (value: string) => Buffer.concat([varint(value.length), Buffer.from(value)]);
const list = (id: number, type: number, ...elements: Buffer[]): Field => [
  id,
  LIST,
  Buffer.concat([Buffer.from([(elements.length << 4) | type]), ...elements]),
];

function struct(...fields: Field[]): Buffer {
  let last = 0;
  const parts = fields.map(([id, type, bytes]) => {
    const head = Buffer.from([((id - last) << 4) | type]);
    last = id;
    return Buffer.concat([head, bytes]);
  });
  return Buffer.concat([...parts, Buffer.from([0])]);
}

const RLE_DICTIONARY = 8;
const BYTE_ARRAY = 6;

/** A Parquet file of one row, of which 200 bytes say that its only value is repeated `times`, and some that it has `pageBytes`. */
export function parquetBomb({ times, pageBytes }: { times: number; pageBytes?: number }): Buffer {
  const value = Buffer.from([1, 0, 0, 0, 0x61]);
  const sizes = (bytes: number) => [i32(2, bytes), i32(3, bytes)];
  const dictionary = Buffer.concat([
    struct(i32(1, 2), ...sizes(value.length), [7, STRUCT, struct(i32(1, 1), i32(2, 0))]),
    value,
  ]);
  const indices = Buffer.concat([Buffer.from([1]), varint(2 * times), Buffer.from([0])]);
  const header = struct(i32(1, 1), i32(2, RLE_DICTIONARY), i32(3, 3), i32(4, 3));
  const data = Buffer.concat([
    struct(i32(1, 0), i32(2, pageBytes ?? indices.length), i32(3, indices.length), [5, STRUCT, header]),
    indices,
  ]);
  const pages = Buffer.concat([dictionary, data]);
  const snappy = pageBytes === undefined ? 0 : 1;
  const column = struct(
    i32(1, BYTE_ARRAY),
    list(2, I32, varint(2 * RLE_DICTIONARY)),
    list(3, BINARY, text('text')),
    i32(4, snappy),
    ...[i64(5, 1), i64(6, pages.length), i64(7, pages.length), i64(9, 4 + dictionary.length)],
    i64(11, 4),
  );
  const group = struct(list(1, STRUCT, struct(i64(2, 4), [3, STRUCT, column])), i64(2, pages.length), i64(3, 1));
  const root = struct([4, BINARY, text('root')], i32(5, 1));
  const element = struct(i32(1, BYTE_ARRAY), i32(3, 0), [4, BINARY, text('text')], i32(6, 0));
  const metadata = struct(i32(1, 1), list(2, STRUCT, root, element), i64(3, 1), list(4, STRUCT, group));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(metadata.length);
  const mark = Buffer.from('PAR1');
  return Buffer.concat([mark, pages, metadata, length, mark]);
}
