/** Stable codes of faults of a safetensors file, or of a request to read or write one. */
export type SafetensorsErrorCode =
  | 'file_truncated'
  | 'header_too_large'
  | 'header_invalid'
  | 'duplicate_key'
  | 'entry_invalid'
  | 'size_mismatch'
  | 'range_invalid'
  | 'tensor_not_found'
  | 'tensor_too_large'
  | 'dtype_not_supported';

/** A fault of a file; the message names the tensor. Services map it to their own errors. */
export class SafetensorsError extends Error {
  readonly code: SafetensorsErrorCode;

  constructor(code: SafetensorsErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SafetensorsError';
    this.code = code;
  }
}
