import type { SaveOptions } from '@lorasmith/artifacts';
import type { StopReason } from './shared-pass/engine-time.js';

/** The state that decides whether a run saves a checkpoint. */
export interface SavableRun {
  readonly stepsDone: number;
  /** True if everything the run has reached is in its newest checkpoint. */
  readonly isSaved: boolean;
  /** True if no evaluation was better than that of this step. */
  readonly isBest: boolean;
  readonly isOver: boolean;
  readonly checkpointBytes: number;
}

/**
 * The largest checkpoint that a stop still saves. A cancel takes effect at once: it saves only what a disk writes within
 * about a second.
 */
const MAX_BYTES_ON_STOP: Record<StopReason, number> = {
  cancel: 128 * 1024 * 1024,
  shutdown: Number.POSITIVE_INFINITY,
  'time-limit': Number.POSITIVE_INFINITY,
  'lost-job': 0,
};

/** Decides when a run saves a checkpoint, and how many it retains. */
export class SavePolicy {
  readonly #everySteps: number | null;

  /** @param everySteps null: only at the best evaluation, at the end and on a stop */
  constructor(everySteps: number | null) {
    this.#everySteps = everySteps;
  }

  isDue(run: SavableRun): boolean {
    return isUnsaved(run) && (run.isBest || run.isOver || isDueEvery(this.#everySteps, run.stepsDone));
  }

  /** @param reason of the stop; anything else saves nothing */
  isDueOnStop(run: SavableRun, reason: StopReason | undefined): boolean {
    return isUnsaved(run) && reason !== undefined && run.checkpointBytes <= (MAX_BYTES_ON_STOP[reason] ?? 0);
  }

  /** The newest checkpoint may be damaged when it is needed. Once the run is over, the best and the last are enough. */
  retention({ isOver }: SavableRun): SaveOptions {
    return { before: isOver ? 0 : 1 };
  }
}

function isUnsaved({ isSaved, stepsDone }: SavableRun): boolean {
  return !isSaved && stepsDone > 0;
}

/** @param everySteps null: never */
export function isDueEvery(everySteps: number | null, step: number): boolean {
  return everySteps !== null && step % everySteps === 0;
}
