import { type ErrorCode, ProductError } from '@lorasmith/contracts';

/** A handler of errors that turns one with this code into null, such as that of something that was deleted. */
export function nullIf(code: ErrorCode): (error: unknown) => null {
  return (error) => {
    if (error instanceof ProductError && error.code === code) return null;
    throw error;
  };
}
