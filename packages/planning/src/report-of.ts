import type { Fault, JobSpec, Report, UploadedDataset } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { adaptedPercent } from './adapted-share.js';
import { adapterBytes } from './adapter-bytes.js';
import type { StepCounts } from './count-steps.js';
import { publishedState } from './evaluation-faults.js';
import type { ExampleNotes } from './example-file/example-format.js';
import type { Examples } from './example-file/examples.js';
import type { ObjectiveFindings } from './objectives/objective.js';
import { type Target, trainedNumbers } from './target-ranks.js';
import { tokensOfSteps } from './tokens-of-steps.js';

export interface ReportSources {
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
export function reportOf(sources: ReportSources): Report {
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
