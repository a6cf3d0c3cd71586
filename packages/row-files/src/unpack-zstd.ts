import { ProductError } from '@lorasmith/contracts';
import { Decompress } from 'fzstd';
import { createXXHash64, type IHasher } from 'hash-wasm';

// RFC 8878. The frames are read here as far as their bounds and checksums need it: the decoder of the blocks takes any window, and checks
// no checksum.

const MAGIC = 0xfd2fb528;
/** The first of 16 magic numbers of frames that are skipped. */
const SKIPPABLE_MAGIC = 0x184d2a50;
/** The limit of the program `zstd`, unless it is called with --long or --memory. */
const MAX_WINDOW_BYTES = 2 ** 27;
const MAX_BLOCK_BYTES = 2 ** 17;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;
const CHECKSUM_BYTES = 4;

/**
 * The content of a zstd file: its frames one after the other, each block as a chunk.
 *
 * The chunks throw ProductError `invalid_dataset` for a damaged file, and for one that needs a large window or a dictionary; errors of `chunks`.
 */
export async function* unzstd(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const hash = await createXXHash64();
  const bytes = new ByteQueue(chunks);
  try {
    while (await bytes.hasMore()) {
      const magic = (await bytes.take(4)).readUInt32LE();
      if (magic === MAGIC) yield* frame(bytes, hash);
      else if (magic >>> 4 === SKIPPABLE_MAGIC >>> 4) await bytes.skip((await bytes.take(4)).readUInt32LE());
      else throw damaged('There is something after a frame that is none.');
    }
  } finally {
    await bytes.close();
  }
}

async function* frame(bytes: ByteQueue, hash: IHasher): AsyncGenerator<Buffer> {
  const { header, hasChecksum } = await readHeader(bytes);
  let content: Uint8Array[] = [];
  const decoder = new Decompress((part) => content.push(part));
  const decode = (part: Buffer, isLast = false): Buffer => {
    content = [];
    try {
      decoder.push(part, isLast);
    } catch (error) {
      throw damaged((error as Error).message);
    }
    const decoded = Buffer.concat(content);
    hash.update(decoded);
    return decoded;
  };
  hash.init();
  yield decode(header);
  for (let isLast = false; !isLast; ) {
    const block = await readBlock(bytes);
    isLast = block.isLast;
    const isEnd = isLast && !hasChecksum;
    yield decode(block.bytes, isEnd);
  }
  if (!hasChecksum) return;
  const checksum = await bytes.take(CHECKSUM_BYTES);
  yield decode(checksum, true);
  const digest = Buffer.from(hash.digest('binary'));
  if (digest.readUInt32BE(CHECKSUM_BYTES) !== checksum.readUInt32LE()) throw damaged('Its checksum is wrong.');
}

/** The header of a frame with its magic number. */
async function readHeader(bytes: ByteQueue): Promise<{ header: Buffer; hasChecksum: boolean }> {
  const descriptor = await bytes.take(1);
  const flags = descriptor[0]!;
  const isSingleSegment = (flags & 0x20) !== 0;
  const window = await bytes.take(isSingleSegment ? 0 : 1);
  const dictionary = await bytes.take([0, 1, 2, 4][flags & 3]!);
  const size = await bytes.take([isSingleSegment ? 1 : 0, 2, 4, 8][flags >> 6]!);
  if (dictionary.some((byte) => byte !== 0)) throw refused('It needs a dictionary.');
  const windowBytes = isSingleSegment ? sizeOf(size) : windowOf(window[0]!);
  if (windowBytes > MAX_WINDOW_BYTES) {
    throw refused(`It needs a window of ${windowBytes} bytes; at most ${MAX_WINDOW_BYTES} are taken.`);
  }
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(MAGIC);
  return {
    header: Buffer.concat([magic, descriptor, window, dictionary, size]),
    hasChecksum: (flags & 4) !== 0,
  };
}

function windowOf(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function sizeOf(field: Buffer): number {
  // A size of two bytes begins at 256.
  if (field.length === 2) return field.readUInt16LE() + 256;
  return field.length === 8 ? Number(field.readBigUInt64LE()) : field.readUIntLE(0, field.length);
}

async function readBlock(bytes: ByteQueue): Promise<{ bytes: Buffer; isLast: boolean }> {
  const header = await bytes.take(3);
  const fields = header.readUIntLE(0, 3);
  const type = (fields >> 1) & 3;
  const size = fields >> 3;
  if (type === BLOCK_RESERVED || size > MAX_BLOCK_BYTES) throw damaged('It has a block that is none.');
  const body = await bytes.take(type === BLOCK_RLE ? 1 : size);
  return { bytes: Buffer.concat([header, body]), isLast: (fields & 1) === 1 };
}

/** Bytes of a stream, taken by number. */
class ByteQueue {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async hasMore(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#rest = next.value;
    }
    return true;
  }

  /** @throws ProductError `invalid_dataset` if there are fewer */
  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = count; left > 0; ) {
      const part = await this.#some(left);
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) left -= (await this.#some(left)).length;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #some(most: number): Promise<Buffer> {
    if (!(await this.hasMore())) throw damaged('It ends too early.');
    const part = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }
}

function damaged(what: string): ProductError {
  const message = `The zstd file is damaged or incomplete (${what.replace(/\.$/, '')}). Send it again.`;
  return new ProductError('invalid_dataset', message);
}

function refused(what: string): ProductError {
  const message = `The zstd file cannot be read. ${what} Send it unpacked (zstd -d FILE), or as gzip.`;
  return new ProductError('invalid_dataset', message);
}
