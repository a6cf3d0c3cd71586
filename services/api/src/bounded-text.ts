/**
 * The text of a body of UTF-8, of which only so much is read.
 * @throws Error for more than `maxBytes`, in words that the owner of a job may read; errors of the connection
 */
export async function boundedText(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop closes the connection.
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`its answer has more than ${maxBytes} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The text of an answer of `fetch`, as {@link boundedText}. */
export async function boundedTextOf({ body }: Response, maxBytes: number): Promise<string> {
  return body === null ? '' : await boundedText(body, maxBytes);
}
