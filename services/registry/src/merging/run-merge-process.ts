import type { AdapterFile } from '@lorasmith/contracts';
import { type ChildProgram, runOneShotProcess } from '../processes/one-shot-process.js';
import type { MergeProgress, MergeRequest } from './merge-messages.js';

export interface RunMergeOptions {
  /** The process is killed when it is aborted, with a ProductError as its reason. */
  signal: AbortSignal;
  /** The process is killed after this long. */
  timeoutMs: number;
  onProgress(progress: MergeProgress): void;
}

/**
 * Merges in a process of its own: the engine blocks, and its memory goes back to the system when it ends.
 *
 * @returns the files it made
 * @throws ProductError the code that the process gave; merge_crashed when it died; timeout; the reason of the
 * signal. The output folder is then to be discarded.
 */
export async function runMergeProcess(
  program: ChildProgram,
  request: MergeRequest,
  options: RunMergeOptions,
): Promise<AdapterFile[]> {
  return await runOneShotProcess<AdapterFile[], MergeProgress>(program, request, {
    ...options,
    work: 'Merging',
    crashCode: 'merge_crashed',
  });
}
