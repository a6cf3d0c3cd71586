import type { TObject } from 'typebox';
import type { Grader } from './grading.js';

/** The parts of an objective that are asked for outside of its folders in planning and training, by its kind. */
export interface ObjectiveContract<Settings extends { kind: string }> {
  readonly kind: Settings['kind'];
  readonly schema: TObject;
  /** The kind in words, for the descriptions of requests. */
  readonly description: string;
  /** The rows that it is trained on, in words. */
  readonly rows: string;
  /** The settings of a training that have another default with it. */
  readonly training: { learning_rate: number; batch_size?: number; gradient_accumulation_steps?: number };
  /** True if its settings change what the loss measures: losses of jobs that differ in them do not compare. */
  readonly changesLoss: boolean;
  /** Its method in the OpenAI API. */
  readonly method: 'dpo' | 'reinforcement';
  /** All settings, with the default of each that is left out. @throws ProductError `invalid_request` for one that is missing */
  complete(given: Partial<Omit<Settings, 'kind'>>): Settings;
  /** The closeness to the reference that the method dpo names; absent where it is another method. */
  beta?(settings: Settings): number;
  /** The rewards of sampled answers; absent in an objective that samples none. */
  rewards?(settings: Settings): AnswerRewards;
  /** The settings as users of the adapter may see them. @defaultValue all of them */
  publicSettings?(settings: Settings): Settings;
}

/** The answers that are sampled and graded in a training. */
export interface AnswerRewards {
  grader: Grader;
  /** Answers to each prompt. */
  answers: number;
  /** Steps that train on the same answers. */
  updates: number;
}
