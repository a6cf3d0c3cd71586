import type { LoadedModel } from '@lorasmith/models';
import type { Examples, ObjectiveKind } from '@lorasmith/planning';
import { classification } from './classification/classification.js';
import { groupRelative } from './group-relative/group-relative.js';
import { nextToken } from './next-token/next-token.js';
import type { Objective } from './objective.js';
import { labelled } from './preference/judged-answers.js';
import { preference } from './preference/judged-pairs.js';
import type { ObjectiveRun, RunExamples, TrainedObjective } from './trained-objective.js';

/** Another objective is another folder, and a line here and in packages/planning. */
const OBJECTIVES: Readonly<Record<ObjectiveKind, TrainedObjective>> = {
  'next-token': nextToken,
  classification,
  preference,
  labelled,
  'group-relative': groupRelative,
};

const made = new WeakMap<LoadedModel, Map<TrainedObjective['create'], Objective<unknown>>>();

/** The objective of this kind over a base model: the same one for all jobs, so that their batches can be joined. */
export function objectiveOn(base: LoadedModel, kind: Examples['kind']): Objective<unknown> {
  const { create } = trainedObjective(kind);
  const onBase = made.get(base) ?? new Map<TrainedObjective['create'], Objective<unknown>>();
  made.set(base, onBase);
  const objective = onBase.get(create) ?? create(base);
  onBase.set(create, objective);
  return objective;
}

/** Makes what the batches of a run need. @throws ProductError `cancelled` */
export function prepareExamples(run: ObjectiveRun): Promise<RunExamples> {
  const { kind } = run.plan.training;
  return trainedObjective(kind).prepare(run, objectiveOn(run.base, kind));
}

function trainedObjective(kind: Examples['kind']): TrainedObjective {
  return OBJECTIVES[kind as ObjectiveKind];
}
