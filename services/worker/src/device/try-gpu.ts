import { askChild } from '@lorasmith/child-processes';
import { trainerEnvironment } from '../trainer/trainer-environment.js';
import { driverAdvice } from './cuda-faults.js';

/** A new process loads the engine, makes its context and loads a kernel. A lost card often does not answer at all. */
const TIMEOUT_MS = 60_000;

/**
 * Whether the GPU still computes, tried in a process of its own.
 *
 * @param program the compiled `try-gpu-main`
 * @param environment of the engine
 * @returns what is wrong with it; null when it is well
 */
export async function gpuFault(program: string, environment: NodeJS.ProcessEnv): Promise<string | null> {
  try {
    const { fault } = await askChild<{ fault: string | null }>(
      { file: program, environment: trainerEnvironment(environment) },
      {},
      { work: 'Trying the GPU', timeoutMs: TIMEOUT_MS, crashed: (how) => new Error(`Its process ${how}.`) },
    );
    const advice = fault === null ? null : driverAdvice(fault);
    return advice === null ? fault : `${fault}. ${advice}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
