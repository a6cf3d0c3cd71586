import { type ExampleLoad, type NamedObjective, ONE_SEQUENCE, repeatedOf } from '../example-load.js';

/** Prompts with several sampled answers each. An answer is taken to be as long as it may be. */
export function promptLoad(objective: NamedObjective): ExampleLoad {
  if (objective?.kind !== 'group-relative') throw new Error('prompts are trained on with an objective of rewards');
  const { group_size: sequences, max_completion_tokens: most, updates_per_batch: updates } = objective;
  return {
    ...ONE_SEQUENCE,
    sequences,
    updates,
    readings: 0,
    tokensOf: (prompt) => sequences * (prompt + most),
    sizesOf(examples, index) {
      const prompt = examples.lengthOf(index);
      return { longest: prompt + most, labels: sequences * most, repeated: repeatedOf(prompt, sequences) };
    },
  };
}
