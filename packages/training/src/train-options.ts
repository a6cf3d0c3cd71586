import type { JobSpec, MachineProfile, NewJobEvent, UploadedDataset } from '@lorasmith/contracts';
import type { ModelTexts, WeightDigests } from '@lorasmith/model-folder';
import type { LoadOptions } from '@lorasmith/models';
import type { ExampleStore, MemoryNeeds, ValidationRows } from '@lorasmith/planning';
import type { BaseModelCache } from './base-model-cache.js';
import type { AskGrader } from './objectives/group-relative/reward-source.js';
import type { Share } from './shared-pass/fair-shares.js';
import type { PassScheduler } from './shared-pass/pass-scheduler.js';

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
  /** The run is evaluated and saved after this step, and paused there: it ends with RungReached. @defaultValue null: it trains to its end */
  pauseAtStep?: number | null;
  /** tokenizing-progressed, report-ready, reference-progressed, checkpoint-loaded, step-finished, evaluation-finished, samples-generated, answers-graded, training-stopped-early, checkpoint-saved. */
  onEvent(event: NewJobEvent): void;
  /** Asks the job's grader, where that is outside of this process. @defaultValue a job with one fails */
  askGrader?: AskGrader | undefined;
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
