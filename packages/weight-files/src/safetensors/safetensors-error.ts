/** Stable codes of errors in a safetensors file, or in a request to read or write one. */
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

/** An error in a safetensors file. The message names the tensor. Services convert it to their own errors. */
export class SafetensorsError extends Error {
  readonly code: SafetensorsErrorCode;

  constructor(code: SafetensorsErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SafetensorsError';
    this.code = code;
  }
}
