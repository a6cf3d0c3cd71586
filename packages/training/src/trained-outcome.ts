import type { TrainingOutcome, TrainingResult } from '@lorasmith/contracts';
import { engine, kernelsInUse } from '@lorasmith/tensor';
import type { PeakMemory } from './peak-memory.js';
import { type CheckedAdapterOptions, writeCheckedAdapter } from './publishing/write-checked-adapter.js';

/** What a run reached: all losses, and without the memory of its process. */
export type RunResult = Omit<TrainingResult, 'peak_memory_bytes' | 'losses'> & { losses: ArrayLike<number> };

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
      losses: thinnedLosses(trained.result.losses),
      peak_memory_bytes: peakMemory.bytes,
    },
    versions: { tensorflow: engine.version, kernels: kernelsInUse(), node: process.versions.node },
  };
}

/** Losses that a manifest holds. */
const MAX_LOSSES = 1000;

/** At most {@link MAX_LOSSES} values at even distances, the first and the last among them. */
function thinnedLosses(losses: ArrayLike<number>): number[] {
  if (losses.length <= MAX_LOSSES) return Array.from(losses);
  const distance = (losses.length - 1) / (MAX_LOSSES - 1);
  return Array.from({ length: MAX_LOSSES }, (_, i) => losses[Math.round(i * distance)]!);
}
