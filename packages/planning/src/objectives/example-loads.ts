import type { ExampleLoad, NamedObjective } from './example-load.js';
import { ONE_SEQUENCE } from './example-load.js';
import type { Examples } from './examples.js';
import { promptLoad } from './group-relative/prompt-load.js';
import { answerLoad } from './labelled/answer-load.js';
import { commonBeginning } from './next-token/common-beginning.js';
import { pairLoad } from './preference/pair-load.js';

const LOADS: Readonly<Record<Examples['kind'], (objective: NamedObjective) => ExampleLoad>> = {
  'next-token': () => ({ ...ONE_SEQUENCE, commonOf: commonBeginning }),
  classification: () => ONE_SEQUENCE,
  preference: pairLoad,
  labelled: answerLoad,
  'group-relative': promptLoad,
};

/** The work that the examples of a job are. */
export function loadOf({ kind }: Pick<Examples, 'kind'>, objective: NamedObjective): ExampleLoad {
  return LOADS[kind](objective);
}
