import { type ErrorCode, type Fault, ProductError } from '@lorasmith/contracts';

/**
 * Flags of the threads of piscina: none of this process, such as the port of a debugger. Piscina requires the module of a task before it
 * imports it, and Node 20 aborts the whole process if a thread ends while it requires an ES module (v8::Module::IsGraphAsync).
 */
export const THREAD_ARGUMENTS = ['--no-experimental-require-module'];

/** A result, or why there is none. */
export type Tried<Result> = { result: Result } | { error: ProductError };

/** The answer of a thread. Its errors are plain data, because classes are lost in the transfer between threads. */
export type ThreadAnswer<Result> =
  | { result: Result }
  | { error: { code: ErrorCode; message: string; param: string | undefined; details: Fault[] } };

/** The answer of a thread to work that may throw ProductError. */
export async function answering<Result>(work: () => Promise<Result>): Promise<ThreadAnswer<Result>> {
  try {
    return { result: await work() };
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    const { code, message, param, details } = error;
    return { error: { code, message, param, details } };
  }
}

/** An answer as it was in the thread. */
export function triedOf<Result>(answer: ThreadAnswer<Result>): Tried<Result> {
  if ('result' in answer) return answer;
  const { code, message, param, details } = answer.error;
  return { error: new ProductError(code, message, { param, details }) };
}

/** @throws ProductError that of the trial */
export function resultOf<Result>(tried: Tried<Result>): Result {
  if ('result' in tried) return tried.result;
  throw tried.error;
}

/** The result of the work, or the ProductError that it throws. */
export function trying<Result>(work: () => Result): Tried<Result> {
  try {
    return { result: work() };
  } catch (error) {
    if (error instanceof ProductError) return { error };
    throw error;
  }
}
