import type { NamedTexts } from '../annotations.js';
import { MAX_JSON_BYTES } from '../read-json.js';
import type { S3Objects } from './s3-objects.js';

/** Texts as objects under a prefix. */
export function s3NamedTexts(
  objects: Pick<S3Objects, 'create' | 'readWhole' | 'remove' | 'list'>,
  prefix: string,
): NamedTexts {
  return {
    create: async (name, text) => (await objects.create(prefix + name, text)) === 'created',

    async read(name) {
      return (await objects.readWhole(prefix + name, MAX_JSON_BYTES))?.toString('utf8') ?? null;
    },

    remove: (name) => objects.remove(prefix + name),

    async list(start) {
      const names: string[] = [];
      for await (const { key } of objects.list(prefix + start)) names.push(key.slice(prefix.length));
      return names;
    },
  };
}
