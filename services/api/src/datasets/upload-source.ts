import type { MultipartFile } from '@fastify/multipart';
import { bodyTooLarge, isLabel, MAX_NAME_CHARACTERS, ProductError } from '@lorasmith/contracts';
import { type ColumnMapping, MAX_MAPPING_CHARACTERS, parseColumnMapping } from '@lorasmith/row-files';
import { boundedChunks, uploadBroken } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';

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
/** The uploaded thing, in messages. */
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

/** The parameter `columns` of an upload. */
export const ColumnsParameter = Type.String({
  maxLength: MAX_MAPPING_CHARACTERS,
  description:
    'The columns of the file that rows have: COLUMN:NAME IN THE FILE, separated by commas. All others are left out. Without it, rows ' +
    'have the columns whose names are those of a row.',
  examples: ['prompt:question,completion:answer'],
});

/** The mapping of a query; undefined without one. @throws ProductError `invalid_request` */
export function columnsOf(query: { columns?: string }): ColumnMapping | undefined {
  return query.columns === undefined ? undefined : parseColumnMapping(query.columns);
}

/** The file of a form. Its fields may be before and after it. */
export interface FormUpload {
  chunks: AsyncIterable<Buffer>;
  /** The name of the file in the form; undefined without one, and before the first chunk. */
  fileName(): string | undefined;
  /** Reads the fields after the file. Call it after the last chunk. */
  readOn(): Promise<void>;
}

export interface FormUploadOptions {
  maxBytes: number;
  /** Longest value of a field. */
  maxFieldBytes: number;
  /** Take the fields that the form may have, by name. They throw ProductError for a value that is not allowed. */
  fields: ReadonlyMap<string, (value: string) => void>;
  /** The error for a part that is neither the one file nor one of these fields. */
  unknownPart(name: string): ProductError;
}

const FILE_FIELD = 'file';
/** Fields that are read, whatever their names. */
const MAX_FIELDS = 4;

/**
 * The part `file` of a form.
 *
 * The chunks throw ProductError `body_too_large` beyond `maxBytes`; `invalid_request` if the sender disconnects or the form
 * is invalid; errors of `fields` and `unknownPart`.
 */
export function formUploadOf(request: FastifyRequest, options: FormUploadOptions): FormUpload {
  const { maxBytes, maxFieldBytes, fields, unknownPart } = options;
  const limits = { fileSize: maxBytes + 1, files: 1, fields: MAX_FIELDS, fieldSize: maxFieldBytes, headerPairs: 32 };
  const parts = request.parts({ limits });
  let file: MultipartFile | undefined;

  /** Reads the fields before the file, or all fields if there is no file. */
  const readOn = async (): Promise<MultipartFile | undefined> => {
    // The parser would wait for a close event that has already occurred.
    if (request.raw.destroyed && !request.raw.readableEnded) throw uploadBroken();
    for (;;) {
      const next = await parts.next().catch((error) => {
        throw formError(error, maxBytes);
      });
      if (next.done) return undefined;
      const part = next.value;
      if (part.type === 'file') {
        if (part.fieldname === FILE_FIELD && file === undefined) return part;
        part.file.resume();
        throw unknownPart(shortened(part.fieldname));
      }
      const name = shortened(part.fieldname);
      const take = fields.get(name);
      if (take === undefined) throw unknownPart(name);
      const { value, valueTruncated } = part;
      if (typeof value !== 'string' || valueTruncated) {
        throw new ProductError('invalid_request', `${name} must be text of at most ${maxFieldBytes} bytes.`, {
          param: name,
        });
      }
      take(value);
    }
  };

  async function* chunks(): AsyncGenerator<Buffer> {
    file = await readOn();
    if (file === undefined) {
      throw new ProductError('invalid_request', 'The form has no file. Send it as the part `file`.', {
        param: FILE_FIELD,
      });
    }
    try {
      yield* boundedChunks(file.file, maxBytes, WHAT);
    } catch (error) {
      // If the form ends without its last boundary, the parser discards what has arrived and was not read yet.
      throw file.file.bytesRead > maxBytes ? bodyTooLarge(maxBytes, WHAT) : error;
    }
  }

  return {
    chunks: chunks(),
    fileName: () => file?.filename,
    async readOn() {
      await readOn();
    },
  };
}

function shortened(name = ''): string {
  return name.slice(0, 100);
}

/** Maps errors of the form parser. All are caused by the request. */
function formError(error: Error & { code?: string }, maxBytes: number): ProductError {
  if (error instanceof ProductError) return error;
  if (error.code === 'FST_REQ_FILE_TOO_LARGE') return bodyTooLarge(maxBytes, WHAT);
  const message = `The form cannot be read (${error.message.slice(0, 200)}). Send one \`file\`, and each field at most once.`;
  return new ProductError('invalid_request', message, { cause: error });
}
