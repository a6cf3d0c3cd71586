/** A stream of bytes whose beginning is known. */
export interface HeadedChunks {
  /** The first bytes, as far as they were asked for. */
  head: Buffer;
  /** All bytes. */
  chunks: AsyncGenerator<Buffer>;
}

/** Reads the beginning of a stream: until `isEnough`, or somewhat further, or to its end. */
export async function withHead(
  chunks: AsyncIterable<Buffer>,
  isEnough: (head: Buffer) => boolean,
): Promise<HeadedChunks> {
  const iterator = chunks[Symbol.asyncIterator]();
  const parts: Buffer[] = [];
  let length = 0;
  // The beginning is looked at when it has doubled, so that the time for many small chunks is not quadratic.
  for (let nextLook = 0; ; ) {
    if (length >= nextLook) {
      if (isEnough(Buffer.concat(parts))) break;
      nextLook = Math.max(1, 2 * length);
    }
    const next = await iterator.next();
    if (next.done) break;
    parts.push(next.value);
    length += next.value.length;
  }
  const head = Buffer.concat(parts);
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
