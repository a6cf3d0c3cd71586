import type { MultipartFile } from '@fastify/multipart';
import { ProductError } from '@lorasmith/contracts';
import { bodyTooLarge, boundedChunks, uploadBroken } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';

/** Content types of a body that consists of the file. */
export const RAW_CONTENT_TYPES = [
  'application/jsonl',
  'application/x-jsonlines',
  'application/x-ndjson',
  'application/ndjson',
  'application/json',
  'application/octet-stream',
  'text/plain',
];

/** The bytes of an upload and its name. Read the name last, because in a form it may follow the file. */
export interface UploadSource {
  chunks: AsyncIterable<Buffer>;
  /** The declared number of bytes; undefined if unknown. */
  declaredBytes: number | undefined;
  name(): Promise<string | null>;
}

const FILE_FIELD = 'file';
const NAME_FIELD = 'name';
const MAX_NAME_LENGTH = 128;
const WHAT = 'file';

/**
 * The uploaded file of a request: its body, or the part `file` of a form.
 *
 * The chunks throw ProductError `body_too_large` beyond `maxBytes`, `invalid_request` if the sender disconnects or the form
 * is invalid.
 */
export function uploadSourceOf(request: FastifyRequest, name: string | null, maxBytes: number): UploadSource {
  refuseEncodings(request.headers['content-encoding']);
  if (request.isMultipart()) return formSource(request, name, maxBytes);
  const { 'content-length': length } = request.headers;
  const declaredBytes = length === undefined ? undefined : Number(length);
  if ((declaredBytes ?? 0) > maxBytes) throw bodyTooLarge(maxBytes, WHAT);
  return { chunks: boundedChunks(request.raw, maxBytes, WHAT), declaredBytes, name: async () => name };
}

function formSource(request: FastifyRequest, nameOfQuery: string | null, maxBytes: number): UploadSource {
  const limits = { fileSize: maxBytes + 1, files: 1, fields: 4, fieldSize: 4 * MAX_NAME_LENGTH, headerPairs: 32 };
  const parts = request.parts({ limits });
  let name = nameOfQuery;
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
        throw unknownPart(part.fieldname);
      }
      if (part.fieldname !== NAME_FIELD) throw unknownPart(part.fieldname);
      const { value, valueTruncated } = part;
      // In characters, like the name in a query.
      if (typeof value !== 'string' || value === '' || valueTruncated || [...value].length > MAX_NAME_LENGTH) {
        const message = `name must be text of 1 to ${MAX_NAME_LENGTH} characters.`;
        throw new ProductError('invalid_request', message, { param: NAME_FIELD });
      }
      name ??= value;
    }
  };

  async function* chunks(): AsyncGenerator<Buffer> {
    file = await readOn();
    if (file === undefined) {
      throw new ProductError('invalid_request', 'The form has no file. Send it as the part `file`.', {
        param: FILE_FIELD,
      });
    }
    yield* boundedChunks(file.file, maxBytes, WHAT);
  }

  return {
    chunks: chunks(),
    // The length of a form is not that of its file.
    declaredBytes: undefined,
    async name() {
      await readOn();
      return name;
    },
  };
}

/** Maps errors of the form parser. All are caused by the request. */
function formError(error: Error & { code?: string }, maxBytes: number): ProductError {
  if (error instanceof ProductError) return error;
  if (error.code === 'FST_REQ_FILE_TOO_LARGE') return bodyTooLarge(maxBytes, WHAT);
  const message = `The form cannot be read (${error.message.slice(0, 200)}). Send one \`file\` and at most one \`name\`.`;
  return new ProductError('invalid_request', message, { cause: error });
}

function unknownPart(name = ''): ProductError {
  const param = name.slice(0, 100);
  const message = `There is no part ${JSON.stringify(param)}: a form has one \`file\`, and may have a \`name\`.`;
  return new ProductError('unknown_field', message, { param });
}

function refuseEncodings(encoding = 'identity'): void {
  if (encoding === 'identity') return;
  throw new ProductError('unsupported_media_type', `Send the file uncompressed, without content-encoding ${encoding}.`);
}
