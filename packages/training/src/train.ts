import type { JobSpec, MachineProfile, NewJobEvent, TrainingOutcome, UploadedDataset } from '@lorasmith/contracts';
import { ModelTexts, type WeightDigests } from '@lorasmith/model-folder';
import type { LoadOptions } from '@lorasmith/models';
import type { ExampleStore, MemoryNeeds, ValidationRows } from '@lorasmith/planning';
import type { BaseModelCache } from './base-model-cache.js';
import { engineError } from './engine-here.js';
import type { GradeByWebhook } from './objectives/group-relative/reward-source.js';
import { type PreparedRun, prepareRun } from './prepare-run.js';
import { runToEnd } from './run-loop.js';
import { SavePolicy } from './save-policy.js';
import type { Share } from './shared-pass/fair-shares.js';
import { PassScheduler } from './shared-pass/pass-scheduler.js';
import { PeakMemory, trainedOutcome } from './trained-outcome.js';

export interface TrainOptions {
  spec: JobSpec;
  /** Folder of the base model. */
  modelFolder: string;
  dataset: UploadedDataset;
  /** The dataset's rows, JSONL. */
  rowsFile: string;
  /** The dataset that `validation.dataset` names. @defaultValue null */
  validation?: ValidationRows | null;
  /** The store of the rows as tokens. */
  examples: ExampleStore;
  /** The newest checkpoint of this run in it is resumed; new ones are written there. */
  checkpointFolder: string;
  /** The PEFT files are written here; it must exist. */
  outputFolder: string;
  /** PEFT folder to start from (`init_from`), with its manifest if it is one of the registry. */
  initialAdapterFolder: string | null;
  /** Its reason is a StopReason, which decides whether a checkpoint is saved before training stops. */
  signal: AbortSignal;
  /**
   * Aborted, training stops after a step, with a checkpoint and as if cancelled. Steps, evaluations and the checks at the
   * end are completed: the next process would have to repeat them. @defaultValue never
   */
  pause?: AbortSignal;
  /** The run is evaluated and saved after this step, and paused there: it ends with RunHeld. @defaultValue null: it trains to its end */
  pauseAtStep?: number | null;
  /** tokenizing-progressed, report-ready, reference-progressed, checkpoint-loaded, step-finished, evaluation-finished, samples-generated, answers-graded, training-stopped-early, checkpoint-saved. */
  onEvent(event: NewJobEvent): void;
  /** Calls the webhook of the job's grader. @defaultValue a job with one fails */
  gradeByWebhook?: GradeByWebhook | undefined;
  /** The measurements of this machine; null: no estimate is made. */
  machine?: MachineProfile | null;
  /** Called as the base model's weights arrive. */
  onLoading?: NonNullable<LoadOptions['onProgress']>;
  /** Loads the base model, and keeps it for the next job. It has the kernels that the training computes with. */
  cache: BaseModelCache;
  /**
   * Called once it is known what memory the run needs; null: it is not known.
   * @returns called when the run has ended
   * @throws JobDeferred where it does not fit into memory with what is there. @defaultValue it fits
   */
  admit?(needs: MemoryNeeds | null): () => void;
  /** Remembers the digests of base models. @defaultValue one that remembers nothing */
  digests?: WeightDigests;
  /** Keeps the tokenizer for the next job. @defaultValue it is loaded for this job */
  texts?: ModelTexts;
  /** Runs the passes of all trainings of this process. @defaultValue this one has its own */
  scheduler?: PassScheduler;
  /** Its share of the machine while other trainings run. @defaultValue the same as each of them */
  share?: Share;
}

/** The time of a small job on a loaded base until its first step. Others wait for that long. */
const PREPARING_MS = 500;

/**
 * Trains a LoRA adapter and writes it as a PEFT folder.
 *
 * Runs in a process of its own: the engine's calls block. The event loop runs before each pass. Several trainings can run in one
 * process at the same time, if they have the cache and the scheduler in common: they share passes, and what each of them makes is the
 * same as if it were alone.
 *
 * @throws JobDeferred when others use another base model; RunHeld at `pauseAtStep`; ProductError cancelled, non_finite_loss, out_of_memory, invalid_adapter, model_*, checkpoint_not_found, what
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
      inTimeSlice: passes.inTimeSlice,
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
