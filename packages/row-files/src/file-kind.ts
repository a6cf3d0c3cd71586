/** A kind of file that its first bytes give away. */
export interface FileKind {
  /** The kind with its article: "a PDF". */
  name: string;
  /** The form in which its rows are taken; null: they are not. */
  form: 'gzip' | 'zstd' | 'parquet' | null;
  /** The advice for sending the rows of such a file. */
  advice: string;
}

/** Bytes from which every kind is recognised: the mark of a tar archive is at byte 257. */
export const FILE_KIND_BYTES = 262;

const UNPACK = 'Unpack it, and send the file in it.';
const AS_UTF8 = 'Send UTF-8: iconv -f UTF-16 -t UTF-8 FILE.';
const AS_JSONL = 'Send its rows as JSONL, CSV or Parquet.';

function kind(name: string, advice: string, form: FileKind['form'] = null): FileKind {
  return { name, form, advice };
}

/** Marks of kinds as text in latin1, and the byte at which they are. The first that matches is the kind. */
const MARKS: readonly (readonly [mark: string, at: number, kind: FileKind])[] = [
  ['\x1f\x8b', 0, kind('a gzip file', UNPACK, 'gzip')],
  ['\x28\xb5\x2f\xfd', 0, kind('a zstd file', UNPACK, 'zstd')],
  ['BZh', 0, kind('a bzip2 file', 'Send it unpacked (bunzip2 FILE), or as gzip.')],
  ['\xfd7zXZ\0', 0, kind('an xz file', 'Send it unpacked (unxz FILE), or as gzip.')],
  ['\x04\x22\x4d\x18', 0, kind('an lz4 file', 'Send it unpacked (lz4 -d FILE), or as gzip.')],
  ['7z\xbc\xaf\x27\x1c', 0, kind('a 7z archive', UNPACK)],
  ['Rar!', 0, kind('a RAR archive', UNPACK)],
  ['ustar', 257, kind('a tar archive', UNPACK)],
  ['PAR1', 0, kind('a Parquet file', 'Send the Parquet file itself: its pages are compressed.', 'parquet')],
  ['ARROW1', 0, kind('an Arrow file', `${AS_JSONL} datasets: Dataset.from_file(FILE).to_json(OUT).`)],
  ['SQLite format 3\0', 0, kind('an SQLite database', AS_JSONL)],
  ['%PDF-', 0, kind('a PDF', `Text to train on has to be written out. ${AS_JSONL}`)],
  ['\xd0\xcf\x11\xe0', 0, kind('an Office file', AS_JSONL)],
  ['\x89PNG', 0, kind('an image', 'A dataset has text, or numbers.')],
  ['\xff\xd8\xff', 0, kind('an image', 'A dataset has text, or numbers.')],
  ['\xff\xfe', 0, kind('text in UTF-16', AS_UTF8)],
  ['\xfe\xff', 0, kind('text in UTF-16', AS_UTF8)],
  ['{\0', 0, kind('text in UTF-16', AS_UTF8)],
  ['\0{', 0, kind('text in UTF-16', AS_UTF8)],
];

const ZIP_MARK = 'PK\x03\x04';
const OFFICE_PARTS = /^(?:\[Content_Types\]\.xml|_rels\/|docProps\/|xl\/|word\/)/;
/** Position of the name of the first file in a zip archive. */
const ZIP_NAME_AT = 30;

/** The kind of a file by its first {@link FILE_KIND_BYTES}; undefined for what may be JSONL. */
export function fileKindOf(head: Buffer): FileKind | undefined {
  const text = head.toString('latin1');
  if (text.startsWith(ZIP_MARK)) {
    const isOffice = OFFICE_PARTS.test(text.slice(ZIP_NAME_AT));
    return isOffice ? kind('an Office file', AS_JSONL) : kind('a zip archive', UNPACK);
  }
  return MARKS.find(([mark, at]) => text.startsWith(mark, at))?.[2];
}
