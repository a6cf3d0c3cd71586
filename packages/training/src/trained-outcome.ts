import type { TrainingOutcome, TrainingResult } from '@lorasmith/contracts';
import { engine } from '@lorasmith/tensor';
import type { PeakMemory } from './peak-memory.js';
import { type CheckedAdapterOptions, writeCheckedAdapter } from './publishing/write-checked-adapter.js';

/** The results of a run: the values of all steps, without the memory of its process. */
export type RunResult = Omit<TrainingResult, 'peak_memory_bytes' | 'losses' | 'accuracies'> &
  Record<'losses' | 'accuracies', ArrayLike<number>>;

export interface TrainedOutcomeOptions extends CheckedAdapterOptions {
  /** Watches since the job began. */
  peakMemory: PeakMemory;
  trained: Pick<TrainingOutcome, 'base_model' | 'dataset' | 'validation_dataset' | 'report'> & { result: RunResult };
}

/** Writes and checks an adapter as it is in memory. @returns what its manifest will say @throws as writeCheckedAdapter */
export async function trainedOutcome(options: TrainedOutcomeOptions): Promise<TrainingOutcome> {
  const { trained, peakMemory, ...adapter } = options;
  const written = await writeCheckedAdapter(adapter);
  return {
    ...trained,
    ...written,
    result: {
      ...trained.result,
      losses: thinned(trained.result.losses),
      accuracies: thinned(trained.result.accuracies),
      peak_memory_bytes: peakMemory.bytes,
    },
    versions: { tensorflow: engine.version, kernels: adapter.base.kernels.library, node: process.versions.node },
  };
}

/** Steps whose loss and accuracy a manifest holds. */
const MAX_STEPS = 1000;

/** Picks at most {@link MAX_STEPS} values at even distances, the first and the last among them. */
function thinned(values: ArrayLike<number>): number[] {
  if (values.length <= MAX_STEPS) return Array.from(values);
  const distance = (values.length - 1) / (MAX_STEPS - 1);
  return Array.from({ length: MAX_STEPS }, (_, i) => values[Math.round(i * distance)]!);
}
