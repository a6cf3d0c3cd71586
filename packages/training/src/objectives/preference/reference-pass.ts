import { readReference, writeReference } from '@lorasmith/artifacts';
import { ProductError } from '@lorasmith/contracts';
import { type Examples, evaluationBatches } from '@lorasmith/planning';
import { throwIfStopped } from '../../stop.js';
import { FORWARD_SHARE } from '../../turn.js';
import type { PassOptions } from '../objective.js';
import type { ObjectiveRun, RunExamples } from '../trained-objective.js';
import type { JudgedExamples } from './judged-examples.js';
import type { Preference } from './preference.js';

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

/** How often what is computed is kept: a trainer that is killed loses no more than this. */
const SAVE_EVERY_MS = 30_000;
const PROGRESS_EVERY_MS = 500;

/**
 * The log-probabilities of all answers under the reference, which no step changes. They are computed once for a run, and kept beside its
 * checkpoints.
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
  if (scores.some(Number.isNaN)) await compute(run, loss, unread, scores);
  return {
    training: scores.subarray(0, width * training.count),
    validation: validation && scores.subarray(width * training.count),
  };
}

/** Fills in what is missing. */
async function compute(
  { options, plan, adapter, passTokens, id, passes }: ObjectiveRun,
  loss: Preference,
  { training, validation }: UnreadExamples,
  scores: Float32Array,
): Promise<void> {
  const { spec, initialAdapterFolder, checkpointFolder: folder, signal, pause } = options;
  const adapters: PassOptions['adapters'] = initialAdapterFolder === null ? [] : [{ adapter }];
  const width = training.referenceScores;
  const total = scores.length / width;
  let known = 0;
  let [savedMs, toldMs] = [performance.now(), Number.NEGATIVE_INFINITY];
  const tell = () => {
    toldMs = performance.now();
    options.onEvent({ type: 'reference-progressed', data: { pairs: known, total_pairs: total } });
  };
  const save = async () => {
    await passes.beside(() => writeReference(folder, { run: id, scores, width }));
    savedMs = performance.now();
  };
  const sides = [
    { judged: training, examples: plan.training },
    ...(validation === null ? [] : [{ judged: validation, examples: plan.validation! }]),
  ];
  let first = 0;
  try {
    for (const { judged, examples } of sides) {
      const own = scores.subarray(width * first, width * (first + judged.count));
      for (const indices of evaluationBatches(examples, spec, passTokens)) {
        if (performance.now() - toldMs > PROGRESS_EVERY_MS) tell();
        known += indices.length;
        if (!indices.some((index) => Number.isNaN(own[width * index]!))) continue;
        throwIfStopped(signal);
        const batch = judged.scored(indices);
        const found = await passes.turn(FORWARD_SHARE * batch.tokens.ids.length, () =>
          loss.scores(batch, { adapters }),
        );
        if (!found.every(Number.isFinite)) throw notFinite(examples.lineOf(indices[0]!));
        own.set(found, width * indices[0]!);
        if (pause?.aborted) throw new ProductError('cancelled', 'Training paused. Another trainer process resumes it.');
        if (performance.now() - savedMs > SAVE_EVERY_MS) await save();
      }
      first += judged.count;
    }
  } catch (error) {
    if (error instanceof ProductError && error.code === 'cancelled') await save();
    throw error;
  }
  await save();
  tell();
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
