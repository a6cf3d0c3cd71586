export {
  decodeForwardBackwardOutput,
  encodeForwardBackwardOutput,
  type ForwardBackwardOutput,
} from './forward-backward-output.js';
export {
  decodeForwardBackwardRequest,
  type ForwardBackwardRequest,
  MAX_REQUEST_ELEMENTS,
  type RequestLimits,
  readCallNumber,
} from './forward-backward-request.js';
export { MessageReader } from './message-reader.js';
export { MessageWriter } from './message-writer.js';
export { encodeForwardBackwardRequest } from './request-writer.js';
export {
  decodeSampleResponse,
  encodeSampleResponse,
  type SampleResponse,
  type TopToken,
  type WireSequence,
} from './sample-response.js';
export { WireError } from './wire-error.js';
