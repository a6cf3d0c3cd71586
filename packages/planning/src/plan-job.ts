import { setImmediate } from 'node:timers/promises';
import {
  type AdapterManifest,
  type Dataset,
  type Fault,
  type FeaturesRow,
  type JobSpec,
  type MachineProfile,
  ProductError,
  type Report,
  type TextualRow,
} from '@lorasmith/contracts';
import { digestWeights, loadChatTemplate, loadTokenizer, type ModelFolder } from '@lorasmith/model-folder';
import { chooseTargets } from './choose-targets.js';
import { countSteps, type StepCounts } from './count-steps.js';
import { checkRow } from './dataset-row.js';
import { RowEncoder } from './encode-row.js';
import { estimateJob, type JobToEstimate, refuseWhatDoesNotFit } from './estimate/estimate-job.js';
import type { Examples } from './examples.js';
import { type CodedFault, FaultList } from './fault-list.js';
import { FeatureRowCollector } from './feature-row-collector.js';
import { initialAdapterFaults } from './initial-adapter.js';
import { type RawRow, readRows } from './read-rows.js';
import { reportOf } from './report-of.js';
import type { RowCollector } from './row-collector.js';
import { type Target, withRanks } from './target-ranks.js';
import { TokenRowCollector } from './token-row-collector.js';
import { heldOutRows } from './validation-split.js';

export interface PlanJobOptions {
  spec: JobSpec;
  model: ModelFolder;
  dataset: Dataset;
  /** The dataset's rows, JSONL. */
  rowsFile: string;
  /** The manifest of the adapter that `lora.init_from` names. */
  initial?: AdapterManifest | null;
  /** What was measured of the machine that will train; null or left out: no estimate is made. */
  machine?: MachineProfile | null;
  /** Ends the planning. */
  signal?: AbortSignal;
}

/** What a job will do, and the data it does it with. */
export interface Plan {
  /** `precision.chosen` is null when the job leaves it to the machine that trains. */
  report: Report;
  /** Layers that get an adapter, in the order of the model. */
  targets: Target[];
  training: Examples;
  /** Null without a validation split. */
  validation: Examples | null;
  steps: StepCounts;
}

/** The event loop gets its turn this often. */
const BREATHE_EVERY_MS = 20;

/**
 * Works out a job before it is trained: which layers, which tokens, how many steps.
 *
 * All faults are looked for before any is reported. Chat templates are code that comes with a model and have bounds, but
 * a service that must answer others meanwhile runs this in a thread that it can end.
 *
 * @throws ProductError with the code of the first fault and up to 100 of them in `details`, each with `line` or `param`:
 * `unmatched_target`, `invalid_job`, `invalid_adapter`, `dataset_format_mismatch`, `invalid_dataset`, `chat_template_failed`,
 * `row_too_long`, `no_trained_tokens`, `label_out_of_range`, `validation_split_empty`, `does_not_fit`; `model_file_missing` and the like
 * for the tokenizer; `cancelled` when the signal is aborted.
 */
export async function planJob(options: PlanJobOptions): Promise<Plan> {
  const { spec, model, dataset, rowsFile, signal } = options;
  const faults = new FaultList();
  const layers = collect(faults, () => chooseTargets(model.modules, spec.lora, model)) ?? [];
  const targets = withRanks(layers, spec.lora, faults);
  if (options.initial && targets.length > 0) faults.add(...(await faultsOfInitial(options, options.initial, targets)));
  const { split } = spec.validation;
  const heldOut =
    collect(faults, () => heldOutRows(dataset.rows, split, spec.training.seed)) ?? new Uint8Array(dataset.rows);
  const mismatch = formatMismatch(model, dataset);
  if (mismatch !== null) {
    faults.add(mismatch);
    faults.throwIfAny();
  }
  const collector = await collectorFor(spec, model, dataset);

  let rows = 0;
  let breathedAt = performance.now();
  for await (const raw of readRows(rowsFile)) {
    if (performance.now() - breathedAt > BREATHE_EVERY_MS) {
      await setImmediate();
      if (signal?.aborted) throw new ProductError('cancelled', `Planning was stopped (${String(signal.reason)}).`);
      breathedAt = performance.now();
    }
    const found = addRow(collector, dataset, raw, heldOut[rows] === 1);
    faults.add(...found.map((fault) => ({ ...fault, line: raw.line })));
    rows++;
  }
  if (rows !== dataset.rows) {
    const message = `The stored rows are damaged: there are ${rows}, there were ${dataset.rows}. Upload the dataset again.`;
    throw new ProductError('invalid_dataset', message, { param: 'dataset' });
  }
  faults.throwIfAny();
  refuseEmptySides(collector, split);

  const steps = countSteps(collector.training.count, spec.training);
  const warnings = lengthWarnings(spec, model, collector);
  const report = reportOf({ spec, model, dataset, targets, collector, steps, warnings });
  const training = collector.training.finish();
  const validation = split > 0 ? collector.validation.finish() : null;
  const estimate = estimateOn(options.machine ?? null, { spec, model, targets, training, validation, steps });
  return { report: { ...report, estimate }, targets, training, validation, steps };
}

function estimateOn(machine: MachineProfile | null, planned: Omit<JobToEstimate, 'machine'>): Report['estimate'] {
  if (machine === null) return null;
  const job = { ...planned, machine };
  const estimate = estimateJob(job);
  if (estimate !== null) refuseWhatDoesNotFit(job, estimate);
  return estimate;
}

async function faultsOfInitial(
  { spec, model }: PlanJobOptions,
  initial: AdapterManifest,
  targets: Target[],
): Promise<CodedFault[]> {
  const weightsSha256 = await digestWeights(model);
  return initialAdapterFaults({ lora: spec.lora, baseModel: model.name, weightsSha256, targets }, initial);
}

function collect<Value>(faults: FaultList, work: () => Value): Value | null {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    faults.addError(error);
    return null;
  }
}

function formatMismatch({ architecture, name }: ModelFolder, { format }: Dataset): CodedFault | null {
  const isClassifier = architecture.kind === 'classifier';
  if (isClassifier === (format === 'features')) return null;
  const wanted = isClassifier ? '"features" and "label"' : 'text, for instance "messages"';
  const message = `The dataset has the format ${format}; the base model "${name}" is trained on rows of ${wanted}.`;
  return { code: 'dataset_format_mismatch', message, param: 'dataset' };
}

/** What makes examples for this model. */
async function collectorFor(
  spec: JobSpec,
  { architecture, path }: ModelFolder,
  { format }: Dataset,
): Promise<RowCollector> {
  if (architecture.kind === 'classifier') {
    const { layers } = architecture;
    return new FeatureRowCollector({ width: layers[0]!.inFeatures, classes: layers.at(-1)!.outFeatures });
  }
  const tokenizer = await loadTokenizer(path);
  // Rows of text have no turns, so a broken template does not stand in their way.
  const template = format === 'text' ? null : await loadChatTemplate(path);
  const endTokenIds = [tokenizer.eosTokenId, ...architecture.eosTokenIds].filter((id) => id !== null);
  return new TokenRowCollector({
    encoder: new RowEncoder({ tokenizer, template, endTokenIds }),
    tokenizer,
    vocabSize: architecture.vocabSize,
    maxLength: spec.training.max_seq_length,
    maxPositions: architecture.maxPositions,
    onOverflow: spec.training.on_overflow,
  });
}

/** @returns what is wrong with the row */
function addRow(collector: RowCollector, dataset: Dataset, raw: RawRow, isHeldOut: boolean): CodedFault[] {
  if ('fault' in raw) return [{ code: 'invalid_dataset', message: raw.fault }];
  const { format, row, faults } = checkRow(raw.value);
  if (row === null) return faults;
  if (format !== dataset.format) {
    const message = `The row has the format ${format}, the dataset ${dataset.format}.`;
    return [{ code: 'invalid_dataset', message }];
  }
  const found = new FaultList();
  // The format of the dataset, and so of this row, is one that the collector takes.
  return collect(found, () => collector.add(row as TextualRow & FeaturesRow, raw.line, isHeldOut)) ?? found.kept;
}

function refuseEmptySides({ training, validation, counts }: RowCollector, split: number): void {
  if (training.count === 0) {
    const message = `All rows to train on were dropped (${counts.dropped} of ${counts.overflowed} that are too long). Raise training.max_seq_length.`;
    throw new ProductError('row_too_long', message, { param: 'training.max_seq_length' });
  }
  if (split > 0 && validation.count === 0) {
    const message = 'All held-out rows were dropped as too long. Raise validation.split or training.max_seq_length.';
    throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
  }
}

/** A default of max_seq_length beyond the model's positions is no news while no row is that long. */
function lengthWarnings({ training }: JobSpec, { architecture }: ModelFolder, { counts }: RowCollector): Fault[] {
  if (architecture.kind !== 'decoder') return [];
  const { maxPositions } = architecture;
  if (training.max_seq_length <= maxPositions || counts.longest <= maxPositions) return [];
  const message = `The model has ${maxPositions} positions: longer rows were handled as on_overflow says, whatever max_seq_length allows.`;
  return [{ code: 'max_seq_length_limited', message, param: 'training.max_seq_length' }];
}
