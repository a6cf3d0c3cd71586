import { readReference, writeReference } from '@lorasmith/artifacts';
import { ProductError } from '@lorasmith/contracts';
import { type Examples, evaluationBatches } from '@lorasmith/planning';
import { FORWARD_SHARE, throwIfStopped } from '../../shared-pass/engine-time.js';
import type { PassOptions } from '../objective.js';
import type { ObjectiveRun, RunExamples } from '../trained-objective.js';
import type { Preference } from './preference.js';
import type { JudgedExamples } from './preference-batch.js';

/** Examples of a run, of which the reference is to be known. */
interface UnreadExamples {
  training: JudgedExamples;
  validation: JudgedExamples | null;
}

/** `[examples, referenceScores]` of the examples to train on, and of those to evaluate on. */
interface References {
  training: Float32Array;
  validation: Float32Array | null;
}

/**
 * Examples whose answers are judged, with the log-probabilities that their loss needs of the reference.
 * @param judge `reference`: `[examples, referenceScores]`; null for a loss without one, and while it is computed
 * @throws ProductError as {@link referencesOf}
 */
export async function withReference<Of extends Examples>(
  run: ObjectiveRun,
  loss: Preference,
  judge: (examples: Of, reference: Float32Array | null) => JudgedExamples,
): Promise<RunExamples<Of>> {
  const { plan } = run;
  const [training, validation] = [plan.training as Of, plan.validation as Of | null];
  const unread = { training: judge(training, null), validation: validation && judge(validation, null) };
  const references = await referencesOf(run, loss, unread);
  const { preference } = plan.report;
  const isOfPairs = references !== null && preference !== undefined;
  return {
    examplesOf: (examples) =>
      judge(examples, references?.[examples === validation ? 'validation' : 'training'] ?? null),
    report: isOfPairs
      ? { preference: { ...preference, reference_accuracy: shareRight(references.training) } }
      : undefined,
  };
}

/** The time between two saves of the scores: a trainer that is killed loses no more than this. */
const SAVE_EVERY_MS = 30_000;
const PROGRESS_EVERY_MS = 500;

/**
 * The log-probabilities of all answers under the reference, which no step changes. They are computed once for a run, and kept in the
 * folder of its checkpoints.
 * @returns null for a loss without a reference
 * @throws ProductError `cancelled`, with what is computed so far kept; `storage_full`, `non_finite_loss`
 */
async function referencesOf(run: ObjectiveRun, loss: Preference, unread: UnreadExamples): Promise<References | null> {
  const { training, validation } = unread;
  const { checkpointFolder: folder } = run.options;
  const width = training.referenceScores;
  if (width === 0) return null;
  const rows = training.count + (validation?.count ?? 0);
  const scores =
    (await readReference(folder, { run: run.id, rows, width })) ?? new Float32Array(width * rows).fill(Number.NaN);
  if (scores.some(Number.isNaN)) await new ReferencePass(run, loss, { scores, width }).fill(unread);
  return {
    training: scores.subarray(0, width * training.count),
    validation: validation && scores.subarray(width * training.count),
  };
}

/** A pass over all answers that computes the scores that are missing (NaN). It keeps them in a file meanwhile. */
class ReferencePass {
  readonly #run: ObjectiveRun;
  readonly #loss: Preference;
  /** `[examples, width]`: of the examples to train on, then of those to evaluate on. */
  readonly #scores: Float32Array;
  readonly #width: number;
  /** The adapters of the reference; none: the base alone. */
  readonly #adapters: PassOptions['adapters'];
  /** Examples whose scores are known. */
  #known = 0;
  #savedMs = performance.now();
  #reportedMs = Number.NEGATIVE_INFINITY;

  constructor(run: ObjectiveRun, loss: Preference, { scores, width }: { scores: Float32Array; width: number }) {
    this.#run = run;
    this.#loss = loss;
    this.#scores = scores;
    this.#width = width;
    this.#adapters = run.options.initialAdapterFolder === null ? [] : [{ adapter: run.adapter }];
  }

  /** @throws ProductError as {@link referencesOf} */
  async fill({ training, validation }: UnreadExamples): Promise<void> {
    const { plan } = this.#run;
    const ofTraining = this.#width * training.count;
    try {
      await this.#fillIn(this.#scores.subarray(0, ofTraining), training, plan.training);
      if (validation !== null) await this.#fillIn(this.#scores.subarray(ofTraining), validation, plan.validation!);
    } catch (error) {
      if (error instanceof ProductError && error.code === 'cancelled') await this.#save();
      throw error;
    }
    await this.#save();
    this.#report();
  }

  /** @param scores `[examples, width]` of one split */
  async #fillIn(scores: Float32Array, judged: JudgedExamples, examples: Examples): Promise<void> {
    const { options, passTokens, passes } = this.#run;
    for (const indices of evaluationBatches(examples, options.spec, passTokens)) {
      if (performance.now() - this.#reportedMs > PROGRESS_EVERY_MS) this.#report();
      this.#known += indices.length;
      if (!indices.some((index) => Number.isNaN(scores[this.#width * index]!))) continue;
      throwIfStopped(options.signal);
      const batch = judged.scored(indices);
      const found = await passes.inEngineCall(FORWARD_SHARE * batch.tokens.ids.length, () =>
        this.#loss.scores(batch, { adapters: this.#adapters }),
      );
      if (!found.every(Number.isFinite)) throw notFinite(examples.lineOf(indices[0]!));
      scores.set(found, this.#width * indices[0]!);
      if (options.pause?.aborted) {
        throw new ProductError('cancelled', 'Training paused. Another trainer process resumes it.');
      }
      if (performance.now() - this.#savedMs > SAVE_EVERY_MS) await this.#save();
    }
  }

  #report(): void {
    this.#reportedMs = performance.now();
    const total = this.#scores.length / this.#width;
    this.#run.options.onEvent({ type: 'reference-progressed', data: { pairs: this.#known, total_pairs: total } });
  }

  async #save(): Promise<void> {
    const { id, passes, options } = this.#run;
    const kept = { run: id, scores: this.#scores, width: this.#width };
    await passes.concurrently(() => writeReference(options.checkpointFolder, kept));
    this.#savedMs = performance.now();
  }
}

function notFinite(line: number): ProductError {
  const message = `The base model gives log-probabilities that are not finite for the answers of line ${line}, or of rows after it. Train in float32, or check the model.`;
  return new ProductError('non_finite_loss', message);
}

/** Share of pairs whose chosen answer the reference finds more likely. @param scores `[pairs, 2]` */
function shareRight(scores: Float32Array): number {
  let right = 0;
  for (let pair = 0; pair < scores.length / 2; pair++) if (scores[2 * pair]! > scores[2 * pair + 1]!) right++;
  return right / (scores.length / 2);
}
