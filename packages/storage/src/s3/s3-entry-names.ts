import type { EntryNames } from '../bundle-index.js';
import { listParts } from './list-keys.js';
import { KEYS_PER_REQUEST, type S3Objects } from './s3-objects.js';

/** Parts of a long list that are listed at the same time. */
const PARTS = 16;

/** Names as empty objects under a prefix. A page of them is one request. */
export function s3EntryNames(
  objects: Pick<S3Objects, 'create' | 'has' | 'remove' | 'list'>,
  prefix: string,
): EntryNames {
  const under = (folder: string) => `${prefix}${folder}/`;
  /** Keys at which the last long list of a folder was divided: the next one has nearly the same keys. */
  const divisions = new Map<string, string[]>();
  return {
    async add(folder, name) {
      await objects.create(under(folder) + name, '');
    },

    has: (folder, name) => objects.has(under(folder) + name),

    remove: (folder, name) => objects.remove(under(folder) + name),

    async page(folder, { after, limit }) {
      const names: string[] = [];
      const start = after === undefined ? undefined : under(folder) + after;
      for await (const { key } of objects.list(under(folder), { after: start, pageSize: limit })) {
        names.push(key.slice(under(folder).length));
        if (names.length === limit) break;
      }
      return names;
    },

    async list(folder) {
      const keys = await listParts(objects, under(folder), divisions.get(folder) ?? []);
      const each = Math.ceil(keys.length / PARTS);
      if (keys.length <= KEYS_PER_REQUEST) divisions.delete(folder);
      else
        divisions.set(
          folder,
          Array.from({ length: PARTS - 1 }, (_, part) => keys[(part + 1) * each]!),
        );
      return keys.map((key) => key.slice(under(folder).length));
    },

    async listAll() {
      const folders = new Map<string, string[]>();
      for (const key of await listParts(objects, prefix, [])) {
        const [folder = '', name = ''] = key.slice(prefix.length).split('/');
        const names = folders.get(folder);
        if (names === undefined) folders.set(folder, [name]);
        else names.push(name);
      }
      return folders;
    },
  };
}
