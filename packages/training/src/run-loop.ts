import { ProductError, RungReached } from '@lorasmith/contracts';
import { isDueEvery, type SavePolicy } from './save-policy.js';
import type { TrainingRun } from './training-run.js';

export interface RunLoopOptions {
  savePolicy: SavePolicy;
  /** Null: evaluations only before the first step and after the last one. */
  evaluateEverySteps: number | null;
  /** The same for samples. */
  sampleEverySteps: number | null;
  /** Its reason is a StopReason. The run's passes end with it. */
  stop: AbortSignal;
  /** Takes effect between two steps, with a checkpoint: another process resumes the run. @defaultValue never */
  pause?: AbortSignal | undefined;
  /** The run is evaluated and saved after this step, and goes no further. @defaultValue null: it goes to its end */
  pauseAtStep?: number | null | undefined;
}

/**
 * Decides what a run does next, from wherever it is, until its last step or until evaluations bring no further gain.
 *
 * Several runs can share a process: each has a loop of its own, which awaits its passes.
 *
 * @throws RungReached at `pauseAtStep`; ProductError cancelled (after the checkpoint that the save policy wants),
 * non_finite_loss, storage_full
 */
export async function runToEnd(run: TrainingRun, options: RunLoopOptions): Promise<void> {
  const { savePolicy, stop, pause, pauseAtStep = null } = options;
  const save = () => run.save(savePolicy.retention(run));
  try {
    if (run.stepsDone === 0) {
      await run.evaluate();
      await run.sample();
    }
    for (;;) {
      // Not before a step of its own: every process brings the run further, however soon it has to pause.
      if (pause?.aborted && run.hasStepped) {
        if (!run.isSaved) await save();
        throw new ProductError('cancelled', 'Training paused after a step. Another trainer process resumes it.');
      }
      const pausesHere = pauseAtStep !== null && run.stepsDone >= pauseAtStep && !run.isOver;
      if (isEvaluationDue(run, options.evaluateEverySteps, pausesHere)) await run.evaluate();
      if (isSampleDue(run, options.sampleEverySteps)) await run.sample();
      if (savePolicy.isDue(run)) await save();
      if (run.isOver) return;
      if (pausesHere) {
        if (!run.isSaved) await save();
        throw new RungReached(run.stepsDone, run.evaluation);
      }
      await run.step();
    }
  } catch (error) {
    if (savePolicy.isDueOnStop(run, stop.reason)) await save();
    throw error;
  }
}

function isEvaluationDue(
  { stepsDone, totalSteps, isEvaluated }: TrainingRun,
  everySteps: number | null,
  pausesHere: boolean,
): boolean {
  return stepsDone > 0 && !isEvaluated && (pausesHere || stepsDone === totalSteps || isDueEvery(everySteps, stepsDone));
}

function isSampleDue({ stepsDone, isOver, isSampled }: TrainingRun, everySteps: number | null): boolean {
  return stepsDone > 0 && !isSampled && (isOver || isDueEvery(everySteps, stepsDone));
}
