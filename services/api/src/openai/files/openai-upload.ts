import { ProductError } from '@lorasmith/contracts';
import type { FastifyRequest } from 'fastify';
import { formUploadOf } from '../../datasets/form-upload.js';
import { checkedName, refuseEncodings, type UploadSource } from '../../datasets/upload-source.js';

const FILE = 'file';
const PURPOSE = 'purpose';
const FINE_TUNE = 'fine-tune';
const MAX_FIELD_BYTES = 1_000;

/**
 * The file of a form as the OpenAI API takes it: the parts `file` and `purpose`, in any order.
 *
 * The chunks and the name throw ProductError as those of {@link formUploadOf}; `invalid_request` for another purpose;
 * `unknown_field` for a further part.
 */
export function openaiUploadOf(
  request: FastifyRequest,
  { columns, signal }: Pick<UploadSource, 'columns' | 'signal'>,
  maxBytes: number,
): UploadSource {
  refuseEncodings(request.headers['content-encoding']);
  let hasPurpose = false;
  const form = formUploadOf(request, {
    maxBytes,
    maxFieldBytes: MAX_FIELD_BYTES,
    fields: new Map([
      [
        PURPOSE,
        (purpose) => {
          checkPurpose(purpose);
          hasPurpose = true;
        },
      ],
    ]),
    unknownPart,
  });
  return {
    chunks: form.chunks,
    // The length of a form is not that of its file.
    declaredBytes: undefined,
    columns,
    signal,
    async name() {
      await form.readOn();
      if (!hasPurpose) throw new ProductError('invalid_request', 'purpose is missing.', { param: PURPOSE });
      const name = form.fileName();
      return name ? checkedName(name, FILE) : null;
    },
  };
}

function checkPurpose(purpose: string): void {
  if (purpose === FINE_TUNE) return;
  const message = `The purpose ${JSON.stringify(purpose.slice(0, 100))} is not supported: files are for ${FINE_TUNE}.`;
  throw new ProductError('invalid_request', message, { param: PURPOSE });
}

function unknownPart(param: string): ProductError {
  const message = param === FILE ? 'A form has one file.' : `The field ${param} is not supported.`;
  return new ProductError('unknown_field', message, { param });
}
