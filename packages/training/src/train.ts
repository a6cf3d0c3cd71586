import type { TrainingOutcome } from '@lorasmith/contracts';
import { ModelTexts } from '@lorasmith/model-folder';
import { engineError } from './engine-here.js';
import { type PreparedRun, prepareRun } from './prepare-run.js';
import { runToEnd } from './run-loop.js';
import { SavePolicy } from './save-policy.js';
import { PassScheduler } from './shared-pass/pass-scheduler.js';
import type { TrainOptions } from './train-options.js';
import { PeakMemory, trainedOutcome } from './trained-outcome.js';

/** The time of a small job on a loaded base until its first step. Others wait for that long. */
const PREPARING_MS = 500;

/**
 * Trains a LoRA adapter and writes it as a PEFT folder.
 *
 * Runs in a process of its own: the engine's calls block. The event loop runs before each pass. Several trainings can run in one
 * process at the same time, if they have the cache and the scheduler in common: they share passes, and what each of them makes is the
 * same as if it were alone.
 *
 * @throws JobDeferred when others use another base model; RungReached at `pauseAtStep`; ProductError cancelled, non_finite_loss, out_of_memory, invalid_adapter, model_*, checkpoint_not_found, what
 * trainedOutcome throws, and what planning finds wrong with the data
 */
export async function train(options: TrainOptions): Promise<TrainingOutcome> {
  const { outputFolder, signal, pause, pauseAtStep, share, scheduler = new PassScheduler() } = options;
  const { samples, training } = options.spec;
  const { checkpoint_every_steps: saveEverySteps, eval_every_steps: evaluateEverySteps } = training;
  const sampleEverySteps = samples?.every_steps ?? null;
  const passes = scheduler.join({ share, signal });
  const peakMemory = PeakMemory.watch();
  let prepared: PreparedRun | null = null;
  try {
    prepared = await passes.concurrently(() => prepareRun(options, passes), PREPARING_MS);
    const { run, base, model, adapter, described } = prepared;
    const savePolicy = new SavePolicy(saveEverySteps);
    await runToEnd(run, { savePolicy, evaluateEverySteps, sampleEverySteps, stop: signal, pause, pauseAtStep });
    const { texts = new ModelTexts() } = options;
    const trained = { ...described, result: await run.finish(described.report.publish) };
    const written = {
      base,
      model,
      adapter,
      outputFolder,
      texts,
      inEngineCall: passes.inEngineCall,
      signal,
      peakMemory,
      trained,
    };
    return await passes.concurrently(() => trainedOutcome(written));
  } catch (error) {
    throw engineError(error, prepared?.plan.settingsForLessMemory() ?? null);
  } finally {
    await prepared?.dispose();
    peakMemory.close();
    passes.leave();
  }
}
