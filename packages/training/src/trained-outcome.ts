import { readFileSync, writeFileSync } from 'node:fs';
import type { TrainingOutcome } from '@lorasmith/contracts';
import type { LoadedModel } from '@lorasmith/models';
import { engine } from '@lorasmith/tensor';
import { type CheckedAdapterOptions, writeCheckedAdapter } from './publishing/write-checked-adapter.js';
import type { RunResult } from './run-record.js';

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
    versions: versionsHere(adapter.base),
  };
}

/** The versions of the software that makes an adapter, as its manifest names them. */
export function versionsHere({ kernels }: LoadedModel): TrainingOutcome['versions'] {
  return { tensorflow: engine.version, kernels: kernels.library, node: process.versions.node };
}

/** Steps whose loss and accuracy a manifest lists. */
const MAX_STEPS = 1000;

/** Picks at most {@link MAX_STEPS} values at even distances, the first and the last among them. */
function thinned(values: ArrayLike<number>): number[] {
  if (values.length <= MAX_STEPS) return Array.from(values);
  const distance = (values.length - 1) / (MAX_STEPS - 1);
  return Array.from({ length: MAX_STEPS }, (_, i) => values[Math.round(i * distance)]!);
}

/** The most memory that was in use while a job ran. */
export class PeakMemory {
  static readonly #open = new Set<PeakMemory>();
  #bytes = 0;

  private constructor() {}

  /** Begins to watch. What this process had in use before no longer counts, if that can be reset. */
  static watch(): PeakMemory {
    // The process has one high-water mark. Each earlier watch takes its value before it is reset.
    const peak = processPeakBytes();
    for (const other of PeakMemory.#open) other.#bytes = Math.max(other.#bytes, peak);
    resetProcessPeak();
    const watch = new PeakMemory();
    PeakMemory.#open.add(watch);
    return watch;
  }

  /**
   * The peak so far. On the CUDA engine it is that of the card, in tensors. On another, that of the host, as was resident;
   * since the process started if that could not be reset, or if there is no /proc/self/status. Freed memory that allocators
   * keep is resident too: TensorFlow's (of oneDNN) keeps all that its tensors ever had. What TensorFlow's engine for GPUs
   * uses of a card is not counted: neither TensorFlow's C API nor its addon reports it.
   *
   * It is that of the process: jobs that ran at the same time are in it, for tensors of a shared pass belong to all of them.
   */
  get bytes(): number {
    return Math.max(this.#bytes, processPeakBytes());
  }

  close(): void {
    PeakMemory.#open.delete(this);
  }
}

/** Resets the peak; a sandbox without /proc/self/clear_refs keeps it. */
function resetProcessPeak(): void {
  engine.cuda?.resetPeakMemory();
  try {
    // 5: the high-water mark of the resident set becomes what is resident now (proc_pid_clear_refs(5)).
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // The peak stays that of the whole process.
  }
}

function processPeakBytes(): number {
  return engine.cuda?.memory().peakBytes ?? (highWaterKilobytes() ?? process.resourceUsage().maxRSS) * 1024;
}

function highWaterKilobytes(): number | null {
  try {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return found === null ? null : Number(found[1]);
  } catch {
    return null;
  }
}
