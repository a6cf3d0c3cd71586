import { cudaErrorIn, endsCudaContext, isUnloadableKernel } from '@lorasmith/child-processes';
import { type ErrorCode, type JobFailure, ProductError } from '@lorasmith/contracts';
import { asStorageError } from '@lorasmith/storage';

/** A failure with a code of the product. */
export type CodedFailure = JobFailure & { code: ErrorCode };

/** The failure of something in a trainer. The log gets the stack of an unknown error, and the engine's own words where memory ran out. */
export function loggedFailure(error: unknown): CodedFailure {
  const known = asStorageError(error);
  // The user gets only the message.
  if (!(known instanceof ProductError) || known.code === 'out_of_memory') console.error(error);
  return failureOf(known);
}

function failureOf(error: unknown): CodedFailure {
  if (error instanceof ProductError) return { code: error.code, message: error.message, details: error.details };
  const text = error instanceof Error ? error.message : String(error);
  const said = text.slice(0, 500);
  const cuda = cudaErrorIn(text);
  if (cuda !== null && isUnloadableKernel(cuda)) {
    return {
      code: 'gpu_unavailable',
      message: `A kernel of the CUDA engine could not be loaded: ${said}`,
      details: [],
    };
  }
  if (cuda !== null && endsCudaContext(cuda)) {
    return { code: 'trainer_crashed', message: `The GPU stopped computing for the trainer: ${said}`, details: [] };
  }
  return { code: 'internal_error', message: `Training failed: ${said}`, details: [] };
}
