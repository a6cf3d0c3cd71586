/** The bytes of a match beyond those that its token says. */
const MIN_MATCH = 4;
/** A length in a token that goes on behind it. */
const LONG = 15;
const FRAME_HEAD_BYTES = 8;

/** The content of an LZ4 block, of exactly so many bytes. @throws Error that says what is wrong */
export function unpackLz4Block(input: Uint8Array, bytes: number): Uint8Array {
  const output = new Uint8Array(bytes);
  let [at, length] = [0, 0];
  const next = () => input[at++] ?? wrong('ends too early');
  const lengthOf = (field: number) => {
    let sum = field;
    for (let byte = field === LONG ? 255 : 0; byte === 255; sum += byte) byte = next();
    return sum;
  };
  for (;;) {
    const token = next();
    const literals = lengthOf(token >> 4);
    if (at + literals > input.length) wrong('ends too early');
    if (length + literals > bytes) wrong('has more bytes than its page');
    output.set(input.subarray(at, at + literals), length);
    at += literals;
    length += literals;
    if (at === input.length) break;
    const offset = next() | (next() << 8);
    const end = length + MIN_MATCH + lengthOf(token & LONG);
    if (offset === 0 || offset > length) wrong('repeats bytes before its beginning');
    if (end > bytes) wrong('has more bytes than its page');
    for (; length < end; length++) output[length] = output[length - offset]!;
  }
  if (length < bytes) wrong('has fewer bytes than its page');
  return output;
}

/**
 * The content of a page with the codec `LZ4` of Parquet, which is deprecated: blocks with the frames of Hadoop, or one block without them.
 *
 * @throws Error that says what is wrong
 */
export function unpackLz4Page(input: Uint8Array, bytes: number): Uint8Array {
  const blocks = hadoopBlocks(input);
  const framed = blocks?.reduce((sum, { length }) => sum + length, 0);
  if (blocks === null || framed !== bytes) return unpackLz4Block(input, bytes);
  return Buffer.concat(blocks.map(({ block, length }) => unpackLz4Block(block, length)));
}

/** The blocks in frames of Hadoop: each behind the length of its content and its own. Null for what has no such frames. */
function hadoopBlocks(input: Uint8Array): { block: Uint8Array; length: number }[] | null {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const blocks = [];
  for (let at = 0; at < input.length; ) {
    if (at + FRAME_HEAD_BYTES > input.length) return null;
    const start = at + FRAME_HEAD_BYTES;
    const length = view.getUint32(at);
    at = start + view.getUint32(at + 4);
    if (at > input.length) return null;
    blocks.push({ block: input.subarray(start, at), length });
  }
  return blocks;
}

function wrong(what: string): never {
  throw new Error(`an LZ4 block ${what}`);
}
