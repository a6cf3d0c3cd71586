import { createHash } from 'node:crypto';

/** A strong ETag from what decides every byte: parts of different content must not be equal. */
export function entityTag(...parts: (string | number)[]): string {
  return `"${createHash('sha256').update(JSON.stringify(parts)).digest('hex')}"`;
}

/** Whether the content need not be sent again (RFC 9110, 13.1.2: weak comparison). */
export function matchesIfNoneMatch(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.split(',').some((candidate) => candidate.trim().replace(/^W\//, '') === etag);
}

/** Whether a Range is to be followed (RFC 9110, 13.1.5: strong comparison; dates never match, none are sent). */
export function matchesIfRange(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === etag;
}
