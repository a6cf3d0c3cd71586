import { ProductError } from '@lorasmith/contracts';
import type { Staging } from '@lorasmith/storage';
import { expect, test } from 'vitest';
import { unpackAdapterTar } from '../src/importing/adapter-tar.js';
import { tarOf } from './tar-bytes.js';

const TAR = tarOf([
  { name: 'adapter_config.json', content: Buffer.alloc(519, 'c') },
  { name: 'adapter_model.safetensors', content: Buffer.alloc(700, 'w') },
]);

/** Discards everything it reads. */
const NOWHERE = {
  async write(_name: string, source: AsyncIterable<Uint8Array>) {
    for await (const _ of source);
  },
} as unknown as Staging;

async function* piecesOf(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size);
}

test.each([17, 100, 512])('a tar in chunks of %i bytes is refused if truncated at any byte', async (size) => {
  const outcomeOf = async (bytes: number) => {
    const error: unknown = await unpackAdapterTar(piecesOf(TAR.subarray(0, bytes), size), NOWHERE).catch((one) => one);
    if (error === undefined) return 'taken';
    return error instanceof ProductError ? 'refused' : error;
  };
  const wholeFiles = TAR.length - 2 * 512;
  for (let bytes = 1; bytes < wholeFiles; bytes += 3)
    expect([bytes, await outcomeOf(bytes)]).toEqual([bytes, 'refused']);
  // The zeros at the end are optional. A tar that is truncated within them may be refused, but only with the right error.
  for (let bytes = wholeFiles + 1; bytes < TAR.length; bytes += 3)
    expect(['taken', 'refused']).toContain(await outcomeOf(bytes));
  for (const bytes of [wholeFiles, TAR.length]) expect(await outcomeOf(bytes)).toBe('taken');
});
