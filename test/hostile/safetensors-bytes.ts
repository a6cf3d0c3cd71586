/**
 * A safetensors file with whatever header it shall have, true or not.
 *
 * @param header an object, or its text or bytes where JSON would not say it
 * @param dataBytes zeros behind it
 * @param claimedBytes what the file says of the header's length, when that is not true
 */
export function safetensorsOf(header: object | string | Uint8Array, dataBytes = 0, claimedBytes?: bigint): Buffer {
  const isText = typeof header === 'string' || header instanceof Uint8Array;
  const text = Buffer.from((isText ? header : JSON.stringify(header)) as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimedBytes ?? BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}
