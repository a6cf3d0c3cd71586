/**
 * A safetensors file with any header, valid or not.
 *
 * @param header an object, or text or bytes that `JSON.stringify` would not produce
 * @param dataBytes number of zero bytes after the header
 * @param claimedBytes a wrong length of the header
 */
export function safetensorsOf(header: object | string | Uint8Array, dataBytes = 0, claimedBytes?: bigint): Buffer {
  const isText = typeof header === 'string' || header instanceof Uint8Array;
  const text = Buffer.from((isText ? header : JSON.stringify(header)) as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimedBytes ?? BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}
