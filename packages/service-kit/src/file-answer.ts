import type { IncomingHttpHeaders } from 'node:http';
import { closed } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';

// A registry that shares its data folder with the api need not send the bytes of a download: it answers with the files that
// they are in, and the api reads those. The status and the other headers are those of the download.

const offset = Type.Integer({ minimum: 0 });

/** A part of a download: bytes in base64, or the bytes `start` to `end`, both inclusive, of a file below the data folder. */
export const FileSegment = Type.Union([
  Type.Object({ content: Type.String() }, closed),
  Type.Object({ file: Type.String(), fileBytes: offset, start: offset, end: offset }, closed),
]);
export type FileSegment = Static<typeof FileSegment>;

/**
 * The first line of the registry's answer, as JSON. The answer then stays open, with an empty line now and then, until the api
 * closes it or the registry shuts down: so long, the registry keeps the files.
 */
export const FileAnswer = Type.Object({ segments: Type.Array(FileSegment) }, closed);
export type FileAnswer = Static<typeof FileAnswer>;

/** Maximum bytes of the first line: more than the segments of a model in thousands of files. */
export const MAX_FILE_ANSWER_BYTES = 16 * 2 ** 20;

/** The header that marks a {@link FileAnswer}. */
export const FILE_ANSWER_HEADER = 'x-lorasmith-files';
const TOKEN_HEADER = 'x-lorasmith-data-folder';

/** The headers in which the api passes the token of its data folder. They replace headers of the same name from the client. */
export function folderTokenHeaders(token: string | null): Record<string, string> {
  return { [TOKEN_HEADER]: token ?? '' };
}

/** True if the sender of a request reads the data folder with this token; null: there is none. */
export function sharesFolder(headers: IncomingHttpHeaders, token: string | null): boolean {
  return token !== null && headers[TOKEN_HEADER] === token;
}
