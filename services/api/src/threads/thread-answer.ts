import { type ErrorCode, type Fault, ProductError } from '@lorasmith/contracts';
import type { Tried } from '../jobs/tried.js';

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
