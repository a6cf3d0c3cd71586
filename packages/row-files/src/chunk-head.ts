/** A stream of bytes whose beginning is known. */
export interface HeadedChunks {
  /** The first bytes, as far as they were asked for. */
  head: Buffer;
  /** All bytes. */
  chunks: AsyncGenerator<Buffer>;
}

/** Reads the beginning of a stream: until `isEnough`, or to its end. */
export async function withHead(
  chunks: AsyncIterable<Buffer>,
  isEnough: (head: Buffer) => boolean,
): Promise<HeadedChunks> {
  const iterator = chunks[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (!isEnough(head)) {
    const next = await iterator.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  async function* all(): AsyncGenerator<Buffer> {
    try {
      if (head.length > 0) yield head;
      yield* { [Symbol.asyncIterator]: () => iterator };
    } finally {
      await iterator.return?.();
    }
  }
  return { head, chunks: all() };
}
