import { createHash, type Hash } from 'node:crypto';

/**
 * Computes the digest that the hub gives a file: `sha256:…`, or `git-sha1:…`, which git computes of `blob`, the size and the
 * bytes.
 *
 * @param like - A digest of the same kind.
 * @param bytes - The size of the whole file.
 */
export function digestLike(like: string, bytes: number): { update(chunk: Uint8Array): void; digest(): string } {
  const kind = like.slice(0, like.indexOf(':'));
  const hash: Hash = createHash(kind === 'sha256' ? 'sha256' : 'sha1');
  if (kind === 'git-sha1') hash.update(`blob ${bytes}\0`);
  return { update: (chunk) => void hash.update(chunk), digest: () => `${kind}:${hash.digest('hex')}` };
}
