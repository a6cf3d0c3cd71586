import type { Dataset, Fault, JobSpec, Report } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { epochsOf, type StepCounts } from './count-steps.js';
import type { RowCollector } from './row-collector.js';
import type { Target } from './target-ranks.js';

export interface ReportSources {
  spec: JobSpec;
  model: ModelFolder;
  dataset: Dataset;
  targets: readonly Target[];
  collector: RowCollector;
  steps: StepCounts;
  warnings: readonly Fault[];
}

/** The report of a planned job. */
export function reportOf({ spec, model, dataset, targets, collector, steps, warnings }: ReportSources): Report {
  const { training, validation, counts } = collector;
  const trained = targets.reduce((sum, layer) => sum + layer.rank * (layer.in_features + layer.out_features), 0);
  const total = model.parameterCount + trained;
  return {
    base_model: model.name,
    family: model.architecture.family,
    precision: precisionOf(spec),
    parameters: {
      trained,
      total,
      trained_percent: (100 * trained) / total,
      modules: targets.map(({ name }) => name),
    },
    rows: { total: dataset.rows, training: training.count, validation: validation.count, ...counts },
    tokens: {
      per_epoch: training.tokens,
      trained_per_epoch: training.trainedTokens,
      // Which rows a cut-short last epoch reads is not known before they are shuffled: their mean is.
      total: Math.round(training.tokens * epochsOf(steps, training.count, spec.training)),
      validation: validation.tokens,
    },
    steps: { per_epoch: steps.perEpoch, total: steps.total, warmup: steps.warmup },
    estimate: null,
    warnings: [...warnings, ...collector.warnings()],
  };
}

function precisionOf({ training: { precision } }: JobSpec): Report['precision'] {
  if (precision !== 'auto') return { chosen: precision, reason: 'The job asked for it.' };
  return { chosen: null, reason: 'The worker that trains measures which is faster on its machine.' };
}
