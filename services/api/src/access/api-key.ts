import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type KeyId, newIdentifier } from '@lorasmith/contracts';

/**
 * `lsk_`, the 24 digits of the key's id, `_`, and 256 random bits in base64url. The record is found by the id, so the
 * secret is only compared, never looked up.
 */
const TOKEN = /^lsk_([0-9a-f]{24})_([A-Za-z0-9_-]{43})$/;
const SECRET_BYTES = 32;

/** A new key. It is shown once and never stored. */
export interface NewApiKey {
  id: KeyId;
  token: string;
  /** The only part of the secret that is stored. */
  secretSha256: string;
}

export function newApiKey(): NewApiKey {
  const id = newIdentifier('key');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return { id, token: `lsk_${id.slice('key_'.length)}_${secret}`, secretSha256: sha256(secret).toString('hex') };
}

/** The parts of a token, or null if it is not one. */
export function parseToken(token: string): { id: KeyId; secret: string } | null {
  const [, digits, secret] = TOKEN.exec(token) ?? [];
  return digits === undefined || secret === undefined ? null : { id: `key_${digits}`, secret };
}

/**
 * Whether the secret has this sha256 (hexadecimal), in constant time. A plain hash is enough for 256 random bits: a slow
 * hash protects only secrets that can be guessed.
 */
export function isSecret(secret: string, secretSha256: string): boolean {
  const stored = Buffer.from(secretSha256, 'hex');
  const given = sha256(secret);
  return stored.length === given.length && timingSafeEqual(stored, given);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
