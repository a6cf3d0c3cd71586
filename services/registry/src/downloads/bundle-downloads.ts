import { type AdapterFile, TAR_MEDIA_TYPES } from '@lorasmith/contracts';
import type { BundleStore } from '@lorasmith/storage';
import type { Download } from './answer-download.js';
import { entityTag } from './entity-tag.js';
import { layOutTar } from './tar-archive.js';

const CONTENT_TYPES: Record<string, string> = {
  json: 'application/json; charset=utf-8',
  jinja: 'text/plain; charset=utf-8',
  md: 'text/plain; charset=utf-8',
  txt: 'text/plain; charset=utf-8',
};

/** Files of a published bundle, with their digests. */
export interface BundleContent {
  store: BundleStore;
  id: string;
  files: readonly AdapterFile[];
}

/** Downloads one file of a bundle. */
export function fileDownload({ store, id }: BundleContent, { name, bytes, sha256 }: AdapterFile): Download {
  return {
    etag: `"${sha256}"`,
    totalBytes: bytes,
    contentType: CONTENT_TYPES[name.slice(name.lastIndexOf('.') + 1)] ?? 'application/octet-stream',
    fileName: name,
    open: (range) => store.read(id, name, range),
  };
}

/** Downloads all files of a bundle as a tar, at its top level. @param mtime - Modification time of all files in the tar */
export function tarDownload({ store, id, files }: BundleContent, mtime: Date, fileName: string): Download {
  const entries = files.map(({ name, bytes }) => ({
    name,
    bytes,
    open: (range: { start: number; end: number }) => store.read(id, name, range),
  }));
  const { totalBytes, open } = layOutTar(entries, mtime);
  const etag = entityTag('tar', mtime.getTime(), ...files.flatMap(({ name, sha256 }) => [name, sha256]));
  return { etag, totalBytes, contentType: TAR_MEDIA_TYPES[0], fileName, open };
}
