import type { SessionFailure } from '@lorasmith/contracts';

/** The result of what an api process does for a call. */
export type OwnResult = { kind: 'done'; body: Buffer } | SessionFailure;

const DONE = 1;

export function bytesOfOwnResult(result: OwnResult): Buffer {
  if (result.kind === 'done') return Buffer.concat([Buffer.of(DONE), result.body]);
  return Buffer.from(JSON.stringify(result));
}

/** @param bytes of {@link bytesOfOwnResult}; JSON never begins as a body does */
export function readOwnResult(bytes: Buffer): OwnResult {
  if (bytes[0] === DONE) return { kind: 'done', body: bytes.subarray(1) };
  return JSON.parse(bytes.toString('utf8')) as OwnResult;
}
