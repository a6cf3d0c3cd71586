import type { Fault, JobSpec, Report, UploadedDataset } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { publishedState } from './evaluations.js';
import type { ExampleNotes } from './example-file/example-format.js';
import type { Examples } from './example-file/examples.js';
import type { ObjectiveFindings } from './objectives/objective.js';
import { tokensOfSteps } from './row-order.js';
import type { StepCounts } from './schedule.js';
import { adaptedPercent, adapterBytes, type Target, trainedNumbers } from './targets.js';

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

/** Warnings of settings in config.json that training does not follow. */
export function modelWarnings({ architecture, untiedByFiles }: ModelFolder): Fault[] {
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
