import { hasReference } from '@lorasmith/contracts';
import { type ExampleLoad, type NamedObjective, ONE_SEQUENCE, repeatedOf } from '../example-load.js';

const SEQUENCES = 2;

/** Pairs of answers to a prompt. The tokens of a pair besides its answers are the prompt, twice. */
export function pairLoad(objective: NamedObjective): ExampleLoad {
  // The loss of `orpo` has the likelihood of the prompt, too.
  const likesPrompts = objective?.kind === 'preference' && objective.loss === 'orpo' && objective.sft_weight > 0;
  return {
    ...ONE_SEQUENCE,
    sequences: SEQUENCES,
    hasReference: readsReference(objective),
    sizesOf(examples, index) {
      const tokens = examples.lengthOf(index);
      const answers = examples.labelsOf(index);
      const prompt = (tokens - answers) / SEQUENCES;
      const labels = likesPrompts ? answers + prompt : answers;
      // One of both may be nearly all of it.
      return { longest: tokens, labels, repeated: likesPrompts ? 0 : repeatedOf(prompt, SEQUENCES) };
    },
  };
}

/** True if the loss compares with the base model's answers. */
export function readsReference(objective: NamedObjective): boolean {
  return objective?.kind === 'preference' && hasReference(objective.loss);
}
