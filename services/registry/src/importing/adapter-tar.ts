import { once } from 'node:events';
import { ADAPTER_FILES, ProductError } from '@lorasmith/contracts';
import type { Staging } from '@lorasmith/storage';
import { Parser, type ReadEntry } from 'tar';

/** Maximum entries of any type. A PEFT folder has about a dozen. */
const MAX_ENTRIES = 1_000;
/** Maximum size of a long name or a pax header. */
const MAX_META_BYTES = 64 * 1024;
const MAX_PATH_LENGTH = 1_024;
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
/** Limits, for docs/limits.md. */
export const tarLimits = {
  entries: { value: MAX_ENTRIES, unit: 'entries', beyond: '422 `invalid_adapter`' },
  config: { value: MAX_CONFIG_BYTES, unit: 'bytes', beyond: '422 `invalid_adapter`' },
};
const BLOCK_BYTES = 512;
/** Offset of `ustar` in the header of a tar. */
const MAGIC_OFFSET = 257;

/** The first bytes of gzip, bzip2, xz, zstd and zip. */
const COMPRESSED_MAGIC = [
  [0x1f, 0x8b],
  [0x42, 0x5a, 0x68],
  [0xfd, 0x37, 0x7a],
  [0x28, 0xb5, 0x2f, 0xfd],
  [0x50, 0x4b],
].map((bytes) => Buffer.from(bytes));

const FILE_TYPES = ['File', 'OldFile', 'ContiguousFile'];
const WANTED: ReadonlySet<string> = new Set([ADAPTER_FILES.config, ADAPTER_FILES.weights]);

/**
 * Writes the two PEFT files of a tar into the staged folder. They may be at the top level of the tar or in one folder of
 * any name. Other files are skipped, and nothing else is ever written.
 *
 * The tar is untrusted. Refused are absolute paths, paths with `..`, links, devices, duplicate files, false sizes, and
 * compressed tars.
 *
 * @param chunks - The caller limits their total size.
 * @throws ProductError `invalid_adapter`; `unsupported_media_type` if it is not an uncompressed tar; `storage_full`
 */
export async function unpackAdapterTar(chunks: AsyncIterable<Uint8Array>, staging: Staging): Promise<void> {
  const reader = new AdapterTarReader(staging);
  try {
    for await (const chunk of plainTar(chunks)) await reader.write(chunk);
    await reader.end();
  } catch (error) {
    await reader.abandon();
    throw error;
  }
}

class AdapterTarReader {
  readonly #staging: Staging;
  readonly #parser = new Parser({ strict: true, maxMetaEntrySize: MAX_META_BYTES, zstd: false, brotli: false });
  readonly #written = new Map<string, Promise<unknown>>();
  readonly #failed: Promise<never>;
  #fail!: (error: unknown) => void;
  #failure: unknown;
  #entries = 0;
  #sawPickle = false;

  constructor(staging: Staging) {
    this.#staging = staging;
    this.#failed = new Promise((_, reject) => {
      this.#fail = (error) => {
        this.#failure ??= error;
        reject(error);
      };
    });
    this.#failed.catch(() => {});
    const refuse = (entry: ReadEntry) => this.#fail(invalid(`${shown(entry.path)} is of the type ${entry.type}`));
    this.#parser.on('entry', (entry: ReadEntry) => this.#take(entry));
    // Types that the library skips, and headers that are too long.
    this.#parser.on('ignoredEntry', refuse);
    this.#parser.on('meta', () => this.#count());
    this.#parser.on('error', (error: Error) => this.#fail(invalid(error.message.split('\n', 1)[0]!, error)));
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#throwIfFailed();
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const takesMore = this.#parsed(() => this.#parser.write(bytes));
    this.#throwIfFailed();
    if (!takesMore) await Promise.race([once(this.#parser, 'drain'), this.#failed]);
  }

  async end(): Promise<void> {
    const ended = once(this.#parser, 'end');
    ended.catch(() => {});
    this.#parsed(() => this.#parser.end());
    await Promise.race([ended, this.#failed]);
    await Promise.race([Promise.all(this.#written.values()), this.#failed]);
    this.#throwIfFailed();
    const missing = [...WANTED].filter((name) => !this.#written.has(name));
    if (missing.length === 0) return;
    const pickle = this.#sawPickle ? ' Pickled weights (.bin, .pt) are not accepted. Save them as safetensors.' : '';
    throw new ProductError('invalid_adapter', `The tar has no ${missing.join(' and no ')}.${pickle}`);
  }

  /** Waits until all files that are being written are closed. */
  async abandon(): Promise<void> {
    this.#fail(new Error('abandoned'));
    await Promise.allSettled(this.#written.values());
  }

  /** The library throws if the tar ends within a block while an earlier file is still being written. */
  #parsed<Result>(step: () => Result): Result {
    try {
      return step();
    } catch (error) {
      throw invalid('it is truncated, or one of its sizes is wrong', error);
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #count(): void {
    this.#entries++;
    if (this.#entries > MAX_ENTRIES) this.#fail(invalid(`it has more than ${MAX_ENTRIES} entries`));
  }

  #take(entry: ReadEntry): void {
    this.#count();
    const fault = faultOf(entry);
    if (fault !== null) this.#fail(invalid(fault));
    const name = this.#failure === undefined && entry.type !== 'Directory' ? wantedName(entry.path) : null;
    if (/\.(bin|pt|pth|pkl|pickle|ckpt)$/.test(entry.path)) this.#sawPickle = true;
    if (name === null) {
      entry.resume();
      return;
    }
    if (this.#written.has(name)) {
      this.#fail(invalid(`it contains ${name} twice`));
      entry.resume();
      return;
    }
    const writing = this.#staging.write(name, this.#untilFailure(entry));
    writing.catch((error: unknown) => this.#fail(error));
    this.#written.set(name, writing);
  }

  async *#untilFailure(entry: ReadEntry): AsyncGenerator<Uint8Array> {
    const chunks = entry[Symbol.asyncIterator]();
    for (;;) {
      const next = await Promise.race([chunks.next(), this.#failed]);
      if (next.done) return;
      yield next.value;
    }
  }
}

/** The reason to refuse an entry; null if it can be written or skipped. */
function faultOf({ path, type, size, header }: ReadEntry): string | null {
  if (path.length > MAX_PATH_LENGTH) return `a name has more than ${MAX_PATH_LENGTH} characters`;
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return `${shown(path)} is an absolute path`;
  if (path.includes('\0') || path.includes('\\')) return `${shown(path)} is not a file name`;
  if (path.split('/').includes('..')) return `${shown(path)} leaves its folder`;
  if (type !== 'Directory' && !FILE_TYPES.includes(type)) return `${shown(path)} is of the type ${type}`;
  // The library reads a negative size as undefined.
  if (header.size === undefined) return `${shown(path)} has an invalid size`;
  if (type === 'Directory' && size > 0) return `${shown(path)} is a folder with content`;
  if (wantedName(path) === ADAPTER_FILES.config && size > MAX_CONFIG_BYTES) {
    return `${ADAPTER_FILES.config} has ${size} bytes; at most ${MAX_CONFIG_BYTES} are read`;
  }
  return null;
}

/** The name of a PEFT file at the top level or in one folder; null for any other file. */
function wantedName(path: string): string | null {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  const name = parts.at(-1);
  return name !== undefined && parts.length <= 2 && WANTED.has(name) ? name : null;
}

/**
 * The bytes of a tar in complete blocks, except for a rest at the end: with parts of blocks, the library reports some
 * complete tars as truncated. It would also unpack compressed tars, whose unpacked size is not limited.
 */
async function* plainTar(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let rest: Buffer = Buffer.alloc(0);
  let isFirst = true;
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([rest, chunk]);
    const whole = bytes.length - (bytes.length % BLOCK_BYTES);
    rest = bytes.subarray(whole);
    if (whole === 0) continue;
    if (isFirst) refuseOtherFormats(bytes);
    isFirst = false;
    yield bytes.subarray(0, whole);
  }
  if (isFirst) refuseOtherFormats(rest);
  if (rest.length > 0) yield rest;
}

function refuseOtherFormats(head: Buffer): void {
  if (head.toString('latin1', MAGIC_OFFSET, MAGIC_OFFSET + 5) === 'ustar') return;
  const isCompressed = COMPRESSED_MAGIC.some((magic) => head.subarray(0, magic.length).equals(magic));
  const message = isCompressed
    ? 'The body is compressed. Send an uncompressed tar (tar -cf).'
    : 'The body is not a tar. Send the PEFT folder as an uncompressed tar (tar -cf).';
  throw new ProductError('unsupported_media_type', message);
}

function shown(path: string): string {
  return JSON.stringify(path.slice(0, 200));
}

function invalid(fault: string, cause?: unknown): ProductError {
  return new ProductError('invalid_adapter', `The tar does not contain a valid PEFT folder: ${fault}.`, { cause });
}
