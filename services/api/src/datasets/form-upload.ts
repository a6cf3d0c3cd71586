import type { MultipartFile } from '@fastify/multipart';
import { bodyTooLarge, ProductError } from '@lorasmith/contracts';
import { boundedChunks, uploadBroken } from '@lorasmith/service-kit';
import type { FastifyRequest } from 'fastify';

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
const WHAT = 'file';
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
