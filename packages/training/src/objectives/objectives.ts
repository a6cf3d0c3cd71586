import type { LoadedModel } from '@lorasmith/models';
import { Classification } from './classification/classification.js';
import { GroupRelative } from './group-relative/group-relative.js';
import { NextToken } from './next-token/next-token.js';
import type { BatchExamples, Objective } from './objective.js';
import { Preference } from './preference/preference.js';

/** Another objective is another folder, and a line here and in packages/planning. */
const OBJECTIVES: { [Kind in BatchExamples['kind']]: (base: LoadedModel) => Objective<unknown> } = {
  'next-token': (base) => new NextToken(ofKind(base, 'decoder')),
  'group-relative': (base) => new GroupRelative(ofKind(base, 'decoder')),
  preference: (base) => new Preference(ofKind(base, 'decoder')),
  classification: (base) => new Classification(ofKind(base, 'classifier')),
};

const made = new WeakMap<LoadedModel, Map<BatchExamples['kind'], Objective<unknown>>>();

/** The objective of this kind over a base model: the same one for all who ask, so that their batches can be joined. */
export function objectiveOn(base: LoadedModel, kind: BatchExamples['kind']): Objective<unknown> {
  const onBase = made.get(base) ?? new Map<BatchExamples['kind'], Objective<unknown>>();
  made.set(base, onBase);
  const objective = onBase.get(kind) ?? OBJECTIVES[kind](base);
  onBase.set(kind, objective);
  return objective;
}

function ofKind<Kind extends LoadedModel['kind']>(base: LoadedModel, kind: Kind): Extract<LoadedModel, { kind: Kind }> {
  if (base.kind !== kind) throw new Error(`this objective trains a ${kind}, not a ${base.kind}`);
  return base as Extract<LoadedModel, { kind: Kind }>;
}
