import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type KeyId, newIdentifier } from '@lorasmith/contracts';

/**
 * `lsk_`, the 24 digits of the key's id, `_`, and 256 random bits in base64url. The id finds the record, so that the
 * secret is never looked up, only compared.
 */
const TOKEN = /^lsk_([0-9a-f]{24})_([A-Za-z0-9_-]{43})$/;
const SECRET_BYTES = 32;

/** A key as its holder has it. Shown once, kept nowhere. */
export interface NewApiKey {
  id: KeyId;
  token: string;
  /** What is kept of it. */
  secretSha256: string;
}

export function newApiKey(): NewApiKey {
  const id = newIdentifier('key');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return { id, token: `lsk_${id.slice('key_'.length)}_${secret}`, secretSha256: sha256(secret).toString('hex') };
}

/** The parts of a token; null for what is none. */
export function parseToken(token: string): { id: KeyId; secret: string } | null {
  const [, digits, secret] = TOKEN.exec(token) ?? [];
  return digits === undefined || secret === undefined ? null : { id: `key_${digits}`, secret };
}

/**
 * Whether the secret is the one that was kept as its sha256 (hexadecimal), in a time that does not depend on where they
 * differ. A plain hash will do for 256 random bits: there is nothing to guess that a slow one would protect.
 */
export function isSecret(secret: string, secretSha256: string): boolean {
  const kept = Buffer.from(secretSha256, 'hex');
  const given = sha256(secret);
  return kept.length === given.length && timingSafeEqual(kept, given);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
