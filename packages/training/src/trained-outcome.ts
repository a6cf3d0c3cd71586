import type { TrainingOutcome } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { BaseModel } from '@lorasmith/models';
import { engine, kernelsInUse } from '@lorasmith/tensor';
import { peakMemoryBytes } from './peak-memory.js';
import { writeCheckedAdapter } from './publishing/write-checked-adapter.js';

export interface TrainedOutcomeOptions {
  /** In memory. */
  base: BaseModel;
  model: ModelFolder;
  adapter: LoraAdapter;
  /** The PEFT files are written here; it must exist. */
  outputFolder: string;
  signal: AbortSignal;
  trained: Pick<TrainingOutcome, 'base_model' | 'dataset' | 'report'> & {
    result: Omit<TrainingOutcome['result'], 'peak_memory_bytes'>;
  };
}

/** Writes and checks an adapter as it is in memory, and says all that its manifest will. @throws as writeCheckedAdapter */
export async function trainedOutcome(options: TrainedOutcomeOptions): Promise<TrainingOutcome> {
  const { trained, ...adapter } = options;
  const written = await writeCheckedAdapter(adapter);
  return {
    ...trained,
    ...written,
    result: { ...trained.result, peak_memory_bytes: peakMemoryBytes() },
    versions: { tensorflow: engine.version, kernels: kernelsInUse(), node: process.versions.node },
  };
}
