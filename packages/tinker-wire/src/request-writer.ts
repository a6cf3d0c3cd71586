import type { SessionDatum } from '@lorasmith/contracts';
import type { ForwardBackwardRequest } from './forward-backward-request.js';
import { bytesOf, MessageWriter } from './message-writer.js';

/** The numbers of `DType`. */
const FLOAT32 = 1;
const INT32 = 3;

/** Encode a `ForwardBackwardRequest`, as the tinker SDK does. Its arrays are copied. */
export function encodeForwardBackwardRequest({ modelId, seqId, op }: ForwardBackwardRequest): Uint8Array {
  const writer = new MessageWriter().text(1, modelId).integer(2, seqId);
  for (const datum of op.data) writer.message(3, datumOf(datum));
  writer.text(4, op.loss).integer(6, op.isForwardOnly ? 1 : 0);
  for (const [name, value] of Object.entries(op.settings)) {
    writer.message(7, new MessageWriter().text(1, name).message(2, new MessageWriter().double(1, value)));
  }
  return writer.finish();
}

function datumOf({ tokens, targets, targetsEach, fields }: SessionDatum): MessageWriter {
  const shape = targetsEach === 1 ? [tokens.length] : [tokens.length, targetsEach];
  const text = new MessageWriter().bytes(1, bytesOf(tokens));
  const writer = new MessageWriter().message(1, new MessageWriter().message(1, text));
  const input = (name: string, values: Int32Array | Float32Array) => {
    const dtype = values instanceof Int32Array ? INT32 : FLOAT32;
    const tensor = new MessageWriter().bytes(1, bytesOf(values)).integer(3, dtype).integers(4, shape);
    writer.message(2, new MessageWriter().text(1, name).message(2, tensor));
  };
  input('target_tokens', targets);
  for (const [name, values] of Object.entries(fields)) input(name, values);
  return writer;
}
