import { createHash } from 'node:crypto';

/** A strong ETag from the parts that determine every byte: different content must have different parts. */
export function entityTag(...parts: (string | number)[]): string {
  return `"${createHash('sha256').update(JSON.stringify(parts)).digest('hex')}"`;
}

/** Whether the client already has the content (RFC 9110, 13.1.2: weak comparison). */
export function matchesIfNoneMatch(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.split(',').some((candidate) => candidate.trim().replace(/^W\//, '') === etag);
}

/** Whether the Range applies (RFC 9110, 13.1.5: strong comparison; dates never match, because none are sent). */
export function matchesIfRange(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === etag;
}
