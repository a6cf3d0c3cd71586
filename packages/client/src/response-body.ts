/**
 * The chunks of a body. Leaving the loop or aborting `signal` closes the connection. The signal passed to `fetch` is not
 * enough: after the headers, Node 20 may garbage-collect the link between that signal and the body.
 *
 * @throws the reason of `signal`; errors of the connection
 */
export async function* bodyChunks(
  response: Response,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
    await reader.cancel().catch(() => {});
  }
}

/** The whole body as text. */
export async function bodyText(response: Response, signal?: AbortSignal): Promise<string> {
  const decoder = new TextDecoder();
  const texts: string[] = [];
  for await (const chunk of bodyChunks(response, signal)) texts.push(decoder.decode(chunk, { stream: true }));
  return texts.join('') + decoder.decode();
}
