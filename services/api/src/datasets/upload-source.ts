import { bodyTooLarge, isLabel, MAX_NAME_CHARACTERS, ProductError } from '@lorasmith/contracts';
import type { ColumnMapping } from '@lorasmith/row-files';
import { boundedChunks } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import { formUploadOf } from './form-upload.js';

/** The type that curl sends for a body unless it is told another. The bytes say what it is. */
const CURL_DEFAULT_TYPE = 'application/x-www-form-urlencoded';

/** Content types of a body that consists of the file. */
export const RAW_CONTENT_TYPES = [
  'application/jsonl',
  'application/x-jsonlines',
  'application/x-ndjson',
  'application/ndjson',
  'application/json',
  'application/octet-stream',
  'application/gzip',
  'application/x-gzip',
  'application/zstd',
  'application/vnd.apache.parquet',
  'text/csv',
  'text/tab-separated-values',
  'text/plain',
  CURL_DEFAULT_TYPE,
];

/** The bytes of an upload and its name. Read the name last, because in a form it may follow the file. */
export interface UploadSource {
  chunks: AsyncIterable<Buffer>;
  /** The declared number of bytes; undefined if unknown. */
  declaredBytes: number | undefined;
  /** The columns of the file that rows have; undefined: those with the names of a row. */
  columns: ColumnMapping | undefined;
  /** Aborted when the sender has left, also after the last chunk. */
  signal: AbortSignal;
  name(): Promise<string | null>;
}

/** The name of the file of a request, and what else it says of it. */
export type NamedUpload = Pick<UploadSource, 'columns' | 'signal'> & { name: string | null };

const NAME_FIELD = 'name';
const WHAT = 'file';

/**
 * The uploaded file of a request: its body, or the part `file` of a form.
 *
 * The chunks throw ProductError `body_too_large` beyond `maxBytes`, `invalid_request` if the sender disconnects or the form
 * is invalid.
 */
export function uploadSourceOf(
  request: FastifyRequest,
  { name, columns, signal }: NamedUpload,
  maxBytes: number,
): UploadSource {
  refuseEncodings(request.headers['content-encoding']);
  if (request.isMultipart()) return { ...formSource(request, name, maxBytes), columns, signal };
  const { 'content-length': length } = request.headers;
  const declaredBytes = length === undefined ? undefined : Number(length);
  if ((declaredBytes ?? 0) > maxBytes) throw bodyTooLarge(maxBytes, WHAT);
  const chunks = boundedChunks(request.raw, maxBytes, WHAT);
  return { chunks, declaredBytes, columns, signal, name: async () => name };
}

function formSource(
  request: FastifyRequest,
  nameOfQuery: string | null,
  maxBytes: number,
): Omit<UploadSource, 'columns' | 'signal'> {
  let name = nameOfQuery;
  const form = formUploadOf(request, {
    maxBytes,
    maxFieldBytes: 4 * MAX_NAME_CHARACTERS,
    unknownPart,
    fields: new Map([
      [
        NAME_FIELD,
        (value) => {
          name ??= checkedName(value, NAME_FIELD);
        },
      ],
    ]),
  });
  return {
    chunks: form.chunks,
    // The length of a form is not that of its file.
    declaredBytes: undefined,
    async name() {
      await form.readOn();
      return name;
    },
  };
}

/** The name of a dataset, in characters, like the name in a query. @throws ProductError `invalid_request` */
export function checkedName(name: string, param: string): string {
  if (name !== '' && [...name].length <= MAX_NAME_CHARACTERS && isLabel(name)) return name;
  const message =
    `${param} must be text in one line, of 1 to ${MAX_NAME_CHARACTERS} characters of which one can be seen, without control ` +
    'characters and marks of text direction.';
  throw new ProductError('invalid_request', message, { param });
}

function unknownPart(param: string): ProductError {
  const message = `There is no part ${JSON.stringify(param)}: a form has one \`file\`, and may have a \`name\`.`;
  return new ProductError('unknown_field', message, { param });
}

/** The error of an upload, with what curl may have done to its lines. */
export function withCurlHint(error: unknown, type = ''): unknown {
  const isFault = error instanceof ProductError && error.code === 'invalid_dataset';
  if (!isFault || !type.startsWith(CURL_DEFAULT_TYPE)) return error;
  const message = `${error.message} If curl sent it with -d, its lines have lost their ends: use --data-binary.`;
  return new ProductError(error.code, message, { param: error.param, details: error.details, cause: error });
}

/** @throws ProductError `unsupported_media_type` */
export function refuseEncodings(encoding = 'identity'): void {
  if (encoding === 'identity') return;
  throw new ProductError(
    'unsupported_media_type',
    `Send the file without content-encoding ${encoding}. A gzip or zstd file is taken as it is.`,
  );
}
