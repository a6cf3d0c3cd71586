import { ProductError } from '@lorasmith/contracts';

/** A longer line is no row. */
const MAX_LINE_CHARACTERS = 2 ** 26;

/**
 * The lines of a text that comes in chunks of UTF-8, without their ends.
 * @throws ProductError `invalid_dataset` for a line that no service takes; errors of the chunks
 */
export async function* textLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest: string[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    const lines = decoder.decode(chunk, { stream: true }).split('\n');
    const last = lines.pop()!;
    for (const line of lines) {
      yield rest.join('') + line;
      rest = [];
      length = 0;
    }
    rest.push(last);
    length += last.length;
    if (length > MAX_LINE_CHARACTERS) {
      const message = `The file has a line of more than ${MAX_LINE_CHARACTERS} characters, so it is no JSONL.`;
      throw new ProductError('invalid_dataset', message);
    }
  }
  const end = rest.join('') + decoder.decode();
  if (end !== '') yield end;
}
