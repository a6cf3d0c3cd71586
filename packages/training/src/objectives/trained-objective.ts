import type { Report } from '@lorasmith/contracts';
import type { ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import type { LoadedModel, LoraAdapter, RowsAlike } from '@lorasmith/models';
import type { Examples, Plan, RowOrder } from '@lorasmith/planning';
import type { Participant } from '../shared-pass/pass-scheduler.js';
import type { TrainOptions } from '../train-options.js';
import type { Rollouts } from './group-relative/rollouts.js';
import type { Objective } from './objective.js';

/** The half of an objective that trains, under the kind that its examples have in planning. */
export interface TrainedObjective<
  Of extends Examples = Examples,
  Loss extends Objective<unknown> = Objective<unknown>,
> {
  /** The loss over a base model. Kinds with the same function have the same one, and their batches can be joined. */
  create(base: LoadedModel): Loss;
  /** Makes what the batches of a run need before the first of them: answers of the reference, for instance. @throws ProductError `cancelled` */
  prepare(run: ObjectiveRun, loss: Loss): Promise<RunExamples<Of>>;
}

/** A run that was planned, and has not begun. */
export interface ObjectiveRun {
  options: TrainOptions;
  plan: Plan;
  model: ModelFolder;
  base: LoadedModel;
  texts: ModelTexts;
  /** It is still the one that the run begins from. */
  adapter: LoraAdapter;
  rows: RowOrder;
  /** The identity of the run, under which files are kept. */
  id: string;
  passes: Participant;
  /** Tokens of a pass that jobs share. */
  passTokens: number;
  /** See tokenBatchOf. */
  alike: RowsAlike;
}

/** The examples of a run as its objective prepares them. */
export interface RunExamples<Of extends Examples = Examples> {
  /** Gives examples of the plan what their loss needs. */
  examplesOf(examples: Of): { count: number };
  /** The parts of the report that are known now. @defaultValue none */
  report?: Partial<Report> | undefined;
  /** True if steps compare with the adapter that the run began from. @defaultValue false */
  readsStart?: boolean;
  /** The sampled answers of the examples to train on, which checkpoints keep. @defaultValue none */
  rollouts?: Rollouts;
}

/** A base model of the kind that an objective trains. @throws Error for another one */
export function ofKind<Kind extends LoadedModel['kind']>(
  base: LoadedModel,
  kind: Kind,
): Extract<LoadedModel, { kind: Kind }> {
  if (base.kind !== kind) throw new Error(`this objective trains a ${kind}, not a ${base.kind}`);
  return base as Extract<LoadedModel, { kind: Kind }>;
}
