import type { Dataset, Fault, JobSpec, Report } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { adapterBytes } from './adapter-bytes.js';
import { epochsOf, type StepCounts } from './count-steps.js';
import { publishedState } from './evaluation-faults.js';
import type { ExampleNotes } from './example-file/example-summary.js';
import type { Examples } from './objectives/objectives.js';
import type { Target } from './target-ranks.js';

export interface ReportSources {
  spec: JobSpec;
  model: ModelFolder;
  dataset: Dataset;
  targets: readonly Target[];
  training: Examples;
  validation: Examples;
  notes: ExampleNotes;
  steps: StepCounts;
  warnings: readonly Fault[];
  precision: Report['precision'];
}

/** The report of a planned job. */
export function reportOf(sources: ReportSources): Report {
  const { spec, model, dataset, targets, training, validation, notes, steps, warnings, precision } = sources;
  const trained = targets.reduce((sum, layer) => sum + layer.rank * (layer.in_features + layer.out_features), 0);
  const total = model.parameterCount + trained;
  return {
    base_model: model.name,
    family: model.architecture.family,
    precision,
    parameters: {
      trained,
      total,
      trained_percent: (100 * trained) / total,
      modules: targets.map(({ name }) => name),
    },
    rows: { total: dataset.rows, training: training.count, validation: validation.count, ...notes.counts },
    tokens: {
      per_epoch: training.tokens,
      trained_per_epoch: training.trainedTokens,
      // Which rows an incomplete last epoch reads is not known before they are shuffled, but their mean is.
      total: Math.round(training.tokens * epochsOf(steps, training.count, spec.training)),
      validation: validation.tokens,
    },
    steps: { per_epoch: steps.perEpoch, total: steps.total, warmup: steps.warmup },
    estimate: null,
    publish: publishedState(spec.training),
    adapter_bytes: adapterBytes(spec, targets),
    warnings: [...warnings, ...notes.warnings],
  };
}
