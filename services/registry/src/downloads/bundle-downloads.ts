import { type AdapterFile, TAR_MEDIA_TYPES } from '@lorasmith/contracts';
import type { BundleStore } from '@lorasmith/storage';
import type { ByteRange } from './byte-range.js';
import type { DownloadPart } from './download-parts.js';
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

/** Content whose bytes are fixed before they are read. */
export interface DownloadContent {
  /** A strong ETag, with its quotes. */
  etag: string;
  totalBytes: number;
  contentType: string;
  /** The suggested file name: ASCII without quotes. */
  fileName: string;
  /** The parts of the range, in order. */
  parts(range: ByteRange): DownloadPart[];
}

/** One file of a bundle. */
export function fileContent({ name, bytes, sha256 }: AdapterFile): DownloadContent {
  return {
    etag: `"${sha256}"`,
    totalBytes: bytes,
    contentType:
      CONTENT_TYPES[name === 'Modelfile' ? 'txt' : name.slice(name.lastIndexOf('.') + 1)] ?? 'application/octet-stream',
    fileName: name,
    parts: (range) => (bytes === 0 ? [] : [{ name, ...range }]),
  };
}

/** All files of a bundle as a tar, at its top level. @param mtime - Modification time of all files in the tar */
export function tarContent(files: readonly AdapterFile[], mtime: Date, fileName: string): DownloadContent {
  const { totalBytes, parts } = layOutTar(files, mtime);
  const etag = entityTag('tar', mtime.getTime(), ...files.flatMap(({ name, sha256 }) => [name, sha256]));
  return { etag, totalBytes, contentType: TAR_MEDIA_TYPES[0], fileName, parts };
}
