import { readReference, writeReference } from '@lorasmith/artifacts';
import { type JobSpec, type NewJobEvent, ProductError } from '@lorasmith/contracts';
import type { LoadedModel } from '@lorasmith/models';
import { evaluationBatches } from '@lorasmith/planning';
import type { Participant } from '../../shared-pass/pass-scheduler.js';
import { throwIfStopped } from '../../stop.js';
import { FORWARD_SHARE } from '../../turn.js';
import type { PassOptions } from '../objective.js';
import { objectiveOn } from '../objectives.js';
import type { JudgedExamples } from './judged-examples.js';
import type { Preference } from './preference.js';

export interface ReferenceOptions {
  /** The examples to train on, and those to evaluate on. Their reference is not known. */
  training: JudgedExamples;
  validation: JudgedExamples | null;
  base: LoadedModel;
  /** The adapter that the run began from; none: the base alone is the reference. */
  adapters: PassOptions['adapters'];
  /** The settings of the job: the reference reads as an evaluation does. */
  spec: JobSpec;
  /** Tokens of a pass that jobs share. */
  passTokens: number;
  /** The identity of the run, under which they are kept in the folder. */
  run: string;
  folder: string;
  passes: Pick<Participant, 'turn' | 'beside'>;
  signal: AbortSignal;
  pause?: AbortSignal | undefined;
  onEvent(event: NewJobEvent): void;
}

/** `[examples, referenceScores]` of the examples to train on, and of those to evaluate on. */
export interface References {
  training: Float32Array;
  validation: Float32Array | null;
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
export async function referencesOf(options: ReferenceOptions): Promise<References | null> {
  const { training, validation, folder, run } = options;
  const width = training.referenceScores;
  if (width === 0) return null;
  const rows = training.count + (validation?.count ?? 0);
  const scores = (await readReference(folder, { run, rows, width })) ?? new Float32Array(width * rows).fill(Number.NaN);
  if (scores.some(Number.isNaN)) await compute(options, scores);
  return {
    training: scores.subarray(0, width * training.count),
    validation: validation && scores.subarray(width * training.count),
  };
}

/** Fills in what is missing. */
async function compute(options: ReferenceOptions, scores: Float32Array): Promise<void> {
  const { training, validation, base, adapters, spec, passTokens, run, folder, passes, signal, pause } = options;
  const objective = objectiveOn(base, 'preference') as Preference;
  const width = training.referenceScores;
  const total = scores.length / width;
  let known = 0;
  let [savedMs, toldMs] = [performance.now(), Number.NEGATIVE_INFINITY];
  const tell = () => {
    toldMs = performance.now();
    options.onEvent({ type: 'reference-progressed', data: { pairs: known, total_pairs: total } });
  };
  const save = async () => {
    await passes.beside(() => writeReference(folder, { run, scores, width }));
    savedMs = performance.now();
  };
  const sides = validation === null ? [training] : [training, validation];
  let first = 0;
  try {
    for (const side of sides) {
      const own = scores.subarray(width * first, width * (first + side.count));
      for (const indices of evaluationBatches(side, spec, passTokens)) {
        if (performance.now() - toldMs > PROGRESS_EVERY_MS) tell();
        known += indices.length;
        if (!indices.some((index) => Number.isNaN(own[width * index]!))) continue;
        throwIfStopped(signal);
        const batch = side.scored(indices);
        const found = await passes.turn(FORWARD_SHARE * batch.tokens.ids.length, () =>
          objective.scores(batch, { adapters }),
        );
        if (!found.every(Number.isFinite)) throw notFinite(side.lineOf(indices[0]!));
        own.set(found, width * indices[0]!);
        if (pause?.aborted) throw new ProductError('cancelled', 'Training paused. Another trainer process resumes it.');
        if (performance.now() - savedMs > SAVE_EVERY_MS) await save();
      }
      first += side.count;
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
export function shareRight(scores: Float32Array): number {
  let right = 0;
  for (let pair = 0; pair < scores.length / 2; pair++) if (scores[2 * pair]! > scores[2 * pair + 1]!) right++;
  return right / (scores.length / 2);
}
