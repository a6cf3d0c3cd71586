import { ProductError } from '@lorasmith/contracts';

/** Passes chunks of an upload on. Says of a file that cannot be read that nothing was stored. */
export async function* orNothingStored(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* chunks;
  } catch (error) {
    if (!(error instanceof ProductError) || error.code !== 'invalid_dataset') throw error;
    const { code, message, param, details } = error;
    throw new ProductError(code, `${message} Nothing was stored.`, { param, details, cause: error });
  }
}
