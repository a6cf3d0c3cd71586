/**
 * Chunks as the body of a request, read as fast as it is sent. Text is sent as UTF-8.
 * @param onProgress called with the bytes handed over so far
 */
export function countedStream(
  chunks: AsyncIterable<Uint8Array | string>,
  onProgress?: (sentBytes: number) => void,
): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let sentBytes = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (sentBytes > 0) onProgress?.(sentBytes);
      for (;;) {
        const { done, value } = await iterator.next();
        if (done) return controller.close();
        const bytes = typeof value === 'string' ? encoder.encode(value) : value;
        // Nothing would read an empty chunk and ask for the next one.
        if (bytes.byteLength === 0) continue;
        sentBytes += bytes.byteLength;
        return controller.enqueue(bytes);
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
