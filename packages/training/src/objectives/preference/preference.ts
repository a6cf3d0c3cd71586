import type { JobSpec, PreferenceObjective } from '@lorasmith/contracts';
import { type Decoder, type JoinedBatch, type LoadedModel, tokensOfRows } from '@lorasmith/models';
import { scope, toFloat32Array } from '@lorasmith/tensor';
import { FORWARD_SHARE } from '../../shared-pass/engine-time.js';
import { judgedMetrics, judgedPass, labelLosses } from '../label-losses.js';
import {
  type BatchLoss,
  type EvaluationMetrics,
  type ForwardRun,
  type Objective,
  type OwnMetrics,
  type PassLoss,
  type PassOptions,
  type StepContext,
  takeBatchLoss,
} from '../objective.js';
import { ofKind } from '../trained-objective.js';
import {
  type JudgedExamples,
  type Judgement,
  joinPreferenceBatches,
  type LabelRun,
  type PreferenceBatch,
  type PreferenceFigures,
  preferenceMetrics,
  type SequenceBatch,
  sumsOf,
} from './preference-batch.js';

/**
 * A loss of two answers to a prompt, or of an answer with a label. It depends on the model through the log-probabilities of the answers
 * alone, so its gradient is that of each label's cross entropy, times a weight.
 */
export class Preference implements Objective<PreferenceBatch, JudgedExamples, PreferenceFigures> {
  readonly #model: Decoder;

  constructor(model: Decoder) {
    this.#model = model;
  }

  context(
    examples: JudgedExamples,
    batches: readonly ArrayLike<number>[],
    { adapters, passes }: ForwardRun,
  ): Promise<StepContext> {
    return examples.context(batches, (batch) =>
      passes.inEngineCall(FORWARD_SHARE * batch.tokens.ids.length, () => this.scores(batch, { adapters })),
    );
  }

  batch(examples: JudgedExamples, indices: ArrayLike<number>, context: StepContext): PreferenceBatch {
    return examples.batch(indices, context);
  }

  tokensIn({ tokens }: PreferenceBatch): number {
    return tokensOfRows(tokens);
  }

  computedIn({ tokens }: PreferenceBatch): number {
    return tokens.ids.length;
  }

  labelsIn({ tokens }: PreferenceBatch): number {
    return tokens.labels.length;
  }

  join(batches: readonly PreferenceBatch[]): JoinedBatch<PreferenceBatch> {
    return joinPreferenceBatches(batches);
  }

  loss(batch: PreferenceBatch, options: PassOptions): BatchLoss<PreferenceFigures> {
    return takeBatchLoss(this.#run(batch, options, false));
  }

  lossAndGradients(batch: PreferenceBatch, options: PassOptions): PassLoss<PreferenceFigures> {
    return this.#run(batch, options, true);
  }

  rowLosses(batch: PreferenceBatch, options: PassOptions): Float32Array {
    return scope(() => toFloat32Array(this.#run(batch, options, false).losses));
  }

  /** `[sequences]` log-probabilities of the answers. */
  scores({ tokens, runs }: SequenceBatch, options: PassOptions): Float32Array {
    return scope(() => {
      const losses = toFloat32Array(labelLosses(this.#model, tokens, { ...options, record: false }).losses);
      return Float32Array.from(runs, (run) => sumsOf(losses, run).answer);
    });
  }

  metrics(losses: readonly BatchLoss<PreferenceFigures>[]): EvaluationMetrics {
    return judgedMetrics(losses, this.ownMetrics);
  }

  ownMetrics(figures: readonly PreferenceFigures[]): OwnMetrics {
    return { preference: preferenceMetrics(figures) };
  }

  #run(batch: PreferenceBatch, options: PassOptions, record: boolean): PassLoss<PreferenceFigures> {
    return judgedPass(this.#model, batch.tokens, { ...options, record }, (losses) => {
      const judgements = judgementsOf(batch, losses);
      return {
        losses: Float32Array.from(judgements, ({ loss }) => loss),
        correct: Float32Array.from(judgements, ({ figures }) => (figures.isRight ? 1 : 0)),
        figures: judgements.map(({ figures }) => figures),
        weights: weightsOf(batch.runs, judgements, losses.length),
      };
    });
  }
}

export function preferenceOn(base: LoadedModel): Preference {
  return new Preference(ofKind(base, 'decoder'));
}

/** The settings of a job on preferences. */
export function preferenceSettings({ objective }: JobSpec): PreferenceObjective {
  if (objective?.kind !== 'preference') throw new Error('examples of preferences without their objective');
  return objective;
}

/** @param losses `[labels]` of the batch */
function judgementsOf({ runs, judges }: PreferenceBatch, losses: Float32Array): Judgement[] {
  const sums = runs.map((run) => sumsOf(losses, run));
  let next = 0;
  return judges.map(({ sequences, judge }) => {
    next += sequences;
    return judge(sums.slice(next - sequences, next));
  });
}

/** `[labels]` */
function weightsOf(runs: readonly LabelRun[], judgements: readonly Judgement[], labels: number): Float32Array {
  const weights = new Float32Array(labels);
  for (const [sequence, { ofAnswer, ofPrompt }] of judgements.flatMap((one) => one.weights).entries()) {
    const { first, count, isAnswer } = runs[sequence]!;
    for (let label = 0; label < count; label++) {
      weights[first + label] = isAnswer[label] === 1 ? ofAnswer : ofPrompt;
    }
  }
  return weights;
}
