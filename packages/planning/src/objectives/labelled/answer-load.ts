import { type ExampleLoad, type NamedObjective, ONE_SEQUENCE } from '../example-load.js';
import { readsReference } from '../preference/pair-load.js';

/** Answers with a label, each a sequence. `kto` reads them with other prompts, too. */
export function answerLoad(objective: NamedObjective): ExampleLoad {
  const isMismatched = objective?.kind === 'preference' && objective.loss === 'kto';
  return {
    ...ONE_SEQUENCE,
    keepsOrder: true,
    readings: isMismatched ? 2 : 1,
    hasReference: readsReference(objective),
  };
}
