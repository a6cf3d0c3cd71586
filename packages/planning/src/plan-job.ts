import { createHash } from 'node:crypto';
import {
  type Fault,
  type JobSpec,
  type MachineProfile,
  ProductError,
  type Report,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { type ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import { estimateJob, type JobToEstimate, leastMemory, memoryNeeds } from './estimate/estimate-job.js';
import type { MemoryNeeds } from './estimate/estimate-memory.js';
import { refuseWhatDoesNotFit, settingsForLessMemory } from './estimate/settings-for-less-memory.js';
import { evaluationWarnings, publishedState, refuseTooManyRounds, scoredRows } from './evaluations.js';
import type { ExampleFile, ExampleNotes, ExampleSummary } from './example-file/example-file.js';
import type { ExampleStore, OpenExamples } from './example-file/example-store.js';
import type { Examples } from './example-file/examples.js';
import { FaultList } from './fault-list.js';
import { knownPrecision } from './machine-settings.js';
import type { GradedRows } from './objectives/group-relative/graded-rows.js';
import type { Objective, ObjectiveFindings, ScoredRow } from './objectives/objective.js';
import { loadOf } from './objectives/objectives.js';
import { checkWithoutRows, type PlanInputs } from './plan-without-rows.js';
import { prepareExamples } from './prepare-examples.js';
import type { TokenizingProgress } from './row-conversion/convert-rows.js';
import { tokensOfSteps } from './row-order.js';
import { countSteps, reachWarnings, type StepCounts, warmupWarnings } from './schedule.js';
import {
  adaptedPercent,
  adapterBytes,
  expertWarnings,
  peftExpertWarnings,
  type Target,
  trainedNumbers,
} from './targets.js';
import { prepareValidation, trainedRowsWarnings, type ValidationRows } from './validation-dataset.js';
import { allExamples, heldOutRows, splitExamples } from './validation-split.js';

export interface PlanJobOptions extends PlanInputs {
  /** The dataset's rows, JSONL. */
  rowsFile: string;
  /** The dataset that `validation.dataset` names. */
  validation?: ValidationRows | null;
  /** The store of the rows as tokens. */
  examples: ExampleStore;
  /** Ends the planning. */
  signal?: AbortSignal;
  /** Called when rows begin to be tokenized, then at most twice a second, and at the end; not when their tokens are stored. */
  onProgress?: (progress: TokenizingProgress) => void;
  /** Most threads that tokenize. @defaultValue one for each core */
  threads?: number;
}

/**
 * Works out a job before it is trained: which layers, which tokens, how many steps.
 *
 * It looks for all faults before it reports any. A chat template is code that comes with a model. It is bounded, but a
 * service that must answer other requests meanwhile runs this in a thread that it can end.
 *
 * @throws ProductError with the code of the first fault and up to 100 of them in `details`, each with `line` or `param`:
 * `unmatched_target`, `invalid_job`, `invalid_adapter`, `dataset_format_mismatch`, `invalid_dataset`, `chat_template_failed`,
 * `row_too_long`, `no_trained_tokens`, `label_out_of_range`, `validation_split_empty`, `does_not_fit`; `model_file_missing` and the like
 * for the tokenizer; `cancelled` when the signal is aborted.
 */
export async function planJob(options: PlanJobOptions): Promise<Plan> {
  const faults = new FaultList();
  const { texts = new ModelTexts() } = options;
  const { model, targets, objective, prompts } = await checkWithoutRows({ ...options, texts }, faults);
  const open: OpenExamples[] = [];
  const close = async () => {
    for (const examples of open.splice(0)) await examples.close();
  };
  try {
    const rows = objective && (await openRows({ ...options, texts, objective, faults }, open));
    faults.throwIfAny();
    // Without faults there are an objective and examples.
    return await Plan.make({ ...options, model }, { targets, objective: objective!, prompts, rows: rows!, close });
  } catch (error) {
    await close();
    throw error;
  }
}

interface JobRows {
  training: ExampleFile;
  /** Null without a validation dataset. */
  validation: ExampleFile | null;
  graded: CheckedRows;
}

/** The rows that were read to check them, if any were. */
interface CheckedRows {
  training: GradedRows | null;
  validation: GradedRows | null;
}

/**
 * The rows to train on, and those of the validation dataset.
 * @param open - Receives what must be closed.
 * @returns null when rows have faults
 */
async function openRows(
  options: PlanJobOptions & { objective: Objective; faults: FaultList },
  open: OpenExamples[],
): Promise<JobRows | null> {
  const { dataset, validation = null, onProgress } = options;
  const totalRows = dataset.rows + (validation?.dataset.rows ?? 0);
  const onRows = onProgress && (({ rows }: TokenizingProgress) => onProgress({ rows, totalRows }));
  const ofTraining = await prepareExamples({ ...options, onProgress: onRows });
  if (ofTraining !== null) open.push(ofTraining);
  // Also after faults of those: all are reported at once.
  const ofValidation = validation && (await prepareValidation(validation, options));
  if (ofValidation !== null) open.push(ofValidation);
  const graded = await checkRows(options);
  return ofTraining && { training: ofTraining.file, validation: ofValidation?.file ?? null, graded };
}

/** Checks the rows against the settings of the job. */
async function checkRows(options: PlanJobOptions & { objective: Objective; faults: FaultList }): Promise<CheckedRows> {
  const { spec, objective, rowsFile, validation = null, faults, signal } = options;
  if (objective.checkRows === null || faults.count > 0) return { training: null, validation: null };
  const training = await objective.checkRows({ spec }, rowsFile, faults, signal);
  if (validation === null) return { training, validation: null };
  const ofValidation = new FaultList();
  const graded = await objective.checkRows({ spec }, validation.rowsFile, ofValidation, signal);
  faults.addOfDataset(validation.dataset.id, ofValidation);
  return { training, validation: graded };
}

/** The results of the checks, and the open rows, that a plan is made of. */
interface PlanParts {
  targets: Target[];
  objective: Objective;
  prompts: Int32Array[];
  rows: JobRows;
  close(): Promise<void>;
}

/** A planned job with its examples, which are read from an open file: close the plan. */
export class Plan {
  /** `precision.chosen` is null when the job leaves it to a machine that was not measured. */
  readonly report: Report;
  /** Digest of all examples: what a tokenizer and a chat template make of the dataset. */
  readonly examplesSha256: string;
  /** Layers that get an adapter, in the order of the model. */
  readonly targets: Target[];
  readonly training: Examples;
  /** Null without rows to evaluate on. */
  readonly validation: Examples | null;
  readonly steps: StepCounts;
  /** The prompts of samples, as tokens; none without `samples`. */
  readonly prompts: Int32Array[];
  /** The held-out rows whose answers are compared with what they say; none unless `samples` asks for them. */
  readonly scored: ScoredRow[];
  /** The rows as graders read them, where they were checked against the grader. */
  readonly graded: CheckedRows;
  readonly #job: Omit<JobToEstimate, 'machine'>;
  readonly #machine: MachineProfile | null;
  readonly #close: () => Promise<void>;

  private constructor(
    { machine = null }: PlanJobOptions,
    { targets, prompts, rows, close }: PlanParts,
    scored: ScoredRow[],
    job: Omit<JobToEstimate, 'machine'>,
    report: Report,
  ) {
    this.targets = targets;
    this.training = job.training;
    this.validation = job.validation;
    this.steps = job.steps;
    this.prompts = prompts;
    this.scored = scored;
    this.graded = rows.graded;
    this.#job = job;
    this.#machine = machine;
    this.#close = close;
    this.report = { ...report, estimate: this.#estimate() };
    const files = rows.validation === null ? filesOf(rows.training) : [rows.training, rows.validation].map(filesOf);
    this.examplesSha256 = createHash('sha256').update(JSON.stringify(files)).digest('hex');
  }

  /** @throws ProductError as {@link planJob}, for faults that depend on the numbers of rows and steps */
  static async make(options: PlanJobOptions, parts: PlanParts): Promise<Plan> {
    const { spec, model, dataset, machine = null } = options;
    const { targets, objective, prompts, rows } = parts;
    const { notes } = rows.training.summary;
    const splits = await splitsOf(options, parts);
    const found = await objective.findings?.(splits.training, spec, options.signal);
    const steps = countSteps(splits.training.count, spec.training, loadOf(splits.training, spec.objective).updates);
    if (spec.samples !== null) refuseTooManyRounds(spec.samples, steps.total);
    const validationDataset =
      rows.validation === null ? null : { dataset: options.validation!.dataset, notes: rows.validation.summary.notes };
    const longest = Math.max(notes.counts.longest, validationDataset?.notes.counts.longest ?? 0);
    const warnings = [
      ...objective.warnings({ spec, model, dataset }, { ...notes.counts, longest }),
      ...(await rowsWarnings(options, rows)),
      ...evaluationWarnings(spec, steps.total),
      ...warmupWarnings(steps),
      ...reachWarnings(spec, targets, steps),
      ...(found?.warnings ?? []),
      ...modelWarnings(model),
      ...expertWarnings(model, targets),
      ...peftExpertWarnings(model, targets),
    ];
    const precision = knownPrecision(spec.training.precision, model.architecture.family, machine);
    const job = { spec, model, targets, ...splits, steps };
    const ofObjective = found?.report ?? {};
    const report = reportOf({ ...job, dataset, notes, ofObjective, warnings, precision, validationDataset });
    const scored = scoredRows(splits.validation, objective, spec, model);
    const asked = [...prompts, ...scored.map(({ promptIds }) => promptIds)];
    return new Plan(options, parts, scored, { ...job, prompts: asked }, report);
  }

  /** The numbers that its memory depends on, as it is trained; null for a classifier, or if no machine was measured. */
  memoryNeeds(trained: { precision: 'float32' | 'bfloat16'; recomputedLayers: number }): MemoryNeeds | null {
    return this.#machine === null ? null : memoryNeeds({ ...this.#job, machine: this.#machine }, trained);
  }

  /**
   * The recomputed layers, from the lowest adapted one on, of a run in a precision. A resumed run has that of its checkpoint, which may not
   * be the precision of the report. All of them where the job asks for that; none if no machine was measured.
   */
  recomputedLayers(precision: 'float32' | 'bfloat16'): number {
    const { report } = this;
    if (this.#machine === null) return 0;
    if (report.precision.chosen === precision) return report.estimate?.recomputed_layers ?? 0;
    const spec = { ...this.#job.spec, training: { ...this.#job.spec.training, precision } };
    return estimateJob({ ...this.#job, spec, machine: this.#machine })?.recomputed_layers ?? 0;
  }

  /** The memory of a machine with which it would just fit; null for a classifier, or if no machine was measured. */
  leastMemory(): number | null {
    return this.#machine === null ? null : leastMemory({ ...this.#job, machine: this.#machine });
  }

  /** The settings to change if memory runs out all the same, as a sentence; null if no machine was measured. */
  settingsForLessMemory(): string | null {
    return this.#machine === null ? null : settingsForLessMemory({ ...this.#job, machine: this.#machine });
  }

  /** Closes the examples. */
  close(): Promise<void> {
    return this.#close();
  }

  /** @throws ProductError `does_not_fit` */
  #estimate(): Report['estimate'] {
    if (this.#machine === null) return null;
    const job = { ...this.#job, machine: this.#machine };
    const estimate = estimateJob(job);
    if (estimate !== null) refuseWhatDoesNotFit(job, estimate);
    return estimate;
  }
}

/** Warnings about rows that are both trained and evaluated on. */
async function rowsWarnings({ dataset, validation, signal }: PlanJobOptions, rows: JobRows): Promise<Fault[]> {
  if (rows.validation === null) return [];
  const training = { dataset, file: rows.training };
  return await trainedRowsWarnings(training, { dataset: validation!.dataset, file: rows.validation }, signal);
}

/**
 * The examples that are trained on and those that are evaluated on.
 * @throws ProductError `row_too_long`, `validation_split_empty`, `label_out_of_range`, `cancelled`
 */
async function splitsOf(
  { spec, model, dataset, validation, signal }: PlanJobOptions,
  { objective, rows }: Pick<PlanParts, 'objective' | 'rows'>,
): Promise<{ training: Examples; validation: Examples | null }> {
  const { split } = spec.validation;
  const heldOut = heldOutRows(dataset.rows, split, spec.training.seed);
  const splits = await splitExamples(rows.training, heldOut, { objective, model }, signal);
  const { training } = splits;
  refuseEmptySplits(training, splits.validation, rows.training.summary.notes, split);
  if (rows.validation === null) return { training, validation: split > 0 ? splits.validation : null };

  const ownRows = await allExamples(rows.validation, { objective, model }, signal);
  if (ownRows.count === 0) {
    const message = 'All rows of the validation dataset were dropped as too long. Raise training.max_seq_length.';
    throw new ProductError('row_too_long', message, { param: 'training.max_seq_length' });
  }
  const [faults, ofRows] = [new FaultList(), new FaultList()];
  await objective.checkTargets?.({ model, training, validation: ownRows, signal }, ofRows);
  faults.addOfDataset(validation!.dataset.id, ofRows);
  faults.throwIfAny();
  return { training, validation: ownRows };
}

function filesOf({ summary }: ExampleFile): ExampleSummary['files'] {
  return summary.files;
}

function refuseEmptySplits(training: Examples, validation: Examples, { counts }: ExampleNotes, split: number): void {
  if (training.count === 0) {
    const message = `All rows to train on were dropped (${counts.dropped} of ${counts.overflowed} rows that are too long). Raise training.max_seq_length.`;
    throw new ProductError('row_too_long', message, { param: 'training.max_seq_length' });
  }
  if (split > 0 && validation.count === 0) {
    const message = 'All held-out rows were dropped as too long. Raise validation.split or training.max_seq_length.';
    throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
  }
}

interface ReportSources {
  spec: JobSpec;
  model: ModelFolder;
  dataset: UploadedDataset;
  targets: readonly Target[];
  training: Examples;
  /** Null without rows to evaluate on. */
  validation: Examples | null;
  notes: ExampleNotes;
  /** See {@link ObjectiveFindings}. */
  ofObjective: ObjectiveFindings['report'];
  /** Null without a validation dataset. */
  validationDataset: { dataset: UploadedDataset; notes: ExampleNotes } | null;
  steps: StepCounts;
  warnings: readonly Fault[];
  precision: Report['precision'];
}

/** The report of a planned job. */
function reportOf(sources: ReportSources): Report {
  const { spec, model, dataset, targets, training, validation, notes, validationDataset, steps } = sources;
  const { ofObjective, warnings, precision } = sources;
  const trained = trainedNumbers(targets);
  const total = model.parameterCount + trained;
  return {
    base_model: model.name,
    family: model.architecture.family,
    precision,
    parameters: {
      trained,
      total,
      trained_percent: (100 * trained) / total,
      adapted_percent: adaptedPercent(model, targets),
      modules: targets.map(({ name }) => name),
    },
    rows: { total: dataset.rows, training: training.count, validation: validation?.count ?? 0, ...notes.counts },
    validation_dataset: validationDataset && {
      id: validationDataset.dataset.id,
      rows: validationDataset.dataset.rows,
      ...validationDataset.notes.counts,
    },
    rendered: notes.rendered,
    tokens: {
      per_epoch: training.tokens,
      trained_per_epoch: training.trainedTokens,
      total: tokensOfSteps(training, spec, steps),
      validation: validation?.tokens ?? 0,
    },
    ...ofObjective,
    steps: { per_epoch: steps.perEpoch, total: steps.total, warmup: steps.warmup },
    estimate: null,
    publish: publishedState(spec.training),
    adapter_bytes: adapterBytes(spec, targets),
    warnings: [...warnings, ...notes.warnings, ...warningsOf(validationDataset)],
  };
}

/** Warnings about the rows of a validation dataset. */
function warningsOf(validation: ReportSources['validationDataset']): Fault[] {
  if (validation === null) return [];
  const { id } = validation.dataset;
  return validation.notes.warnings.map((warning) => ({
    ...warning,
    message: `In the validation dataset: ${warning.message}`,
    dataset: id,
  }));
}

/** Warnings of settings in config.json that training does not follow. */
function modelWarnings({ architecture, untiedByFiles }: ModelFolder): Fault[] {
  if (architecture.kind !== 'decoder') return [];
  const param = 'base_model';
  const warnings: Fault[] = [];
  if (architecture.ignoredDropout.length > 0) {
    const fields = architecture.ignoredDropout.join(', ');
    const message = `The base model's own dropout (${fields}) is not applied. lora.dropout sets the adapter's.`;
    warnings.push({ code: 'base_dropout_ignored', message, param });
  }
  if (untiedByFiles) {
    const message = `The model's config.json ties the output head to the embedding, but its files have another head, which is used, as in transformers. Set tie_word_embeddings to false for servers that follow config.json.`;
    warnings.push({ code: 'untied_output_head', message, param });
  }
  return warnings;
}
