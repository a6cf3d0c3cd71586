/**
 * Converts chunks to the body of a request, with backpressure. Text is sent as UTF-8.
 * @param onProgress called with the number of bytes passed on so far
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
        // After an empty chunk, the stream would not be pulled again.
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
