import { MAX_SAMPLE_ROUNDS, MAX_SAMPLE_TOKENS, ProductError, type SampleSettings } from '@lorasmith/contracts';
import type { ModelTexts } from '@lorasmith/model-folder';
import { countRounds } from './count-steps.js';
import type { CodedFault, FaultList } from './fault-list.js';
import type { Objective, ObjectiveJob } from './objectives/objective.js';
import { heldOutRowsFault } from './scored-rows.js';

/**
 * The prompts of a job as tokens; none without `samples`. The tokenizer is loaded only for prompts.
 * @param faults - Receives what is wrong with prompts.
 */
export async function samplePrompts(
  { spec, model, dataset }: ObjectiveJob,
  { objective, texts, faults }: { objective: Objective; texts: ModelTexts; faults: FaultList },
): Promise<Int32Array[]> {
  const { samples } = spec;
  if (samples === null) return [];
  const { architecture } = model;
  if (objective.createPromptEncoder === null || architecture.kind !== 'decoder') {
    const message = 'The base model is a classifier: it answers no prompts. Leave samples out.';
    faults.add({ code: 'invalid_job', message, param: 'samples' });
    return [];
  }
  const heldOut = heldOutRowsFault(spec, dataset, objective);
  if (heldOut !== null) faults.add(heldOut);
  const { completion_format: completionFormat } = spec.training;
  const encode = await objective.createPromptEncoder({ model, dataset, completionFormat }, samples.prompts, texts);
  const most = Math.min(MAX_SAMPLE_TOKENS, architecture.maxPositions);
  return samples.prompts.flatMap((prompt, index) => {
    const fault = (code: CodedFault['code'], message: string) => {
      faults.add({ code, message, param: `samples.prompts.${index}` });
      return [];
    };
    const texts = typeof prompt === 'string' ? [prompt] : prompt.map(({ content }) => content);
    if (!texts.every((text) => text.isWellFormed())) {
      return fault('invalid_job', 'The prompt has a lone surrogate (\\ud800 to \\udfff).');
    }
    try {
      const ids = encode(prompt);
      if (ids.length === 0) return fault('invalid_job', 'The prompt has no tokens.');
      if (ids.length + samples.max_tokens <= most) return [ids];
      const message = `The prompt has ${ids.length} tokens, which with an answer of samples.max_tokens ${samples.max_tokens} are more than ${most}. Shorten it.`;
      return fault('invalid_job', message);
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      return fault(error.code, error.message);
    }
  });
}

/** Samples are bounded: each round takes time, and is stored. @throws ProductError `invalid_job` */
export function refuseTooManyRounds(settings: SampleSettings, steps: number): void {
  const rounds = countRounds(settings.every_steps, steps);
  if (rounds <= MAX_SAMPLE_ROUNDS) return;
  const least = Math.ceil(steps / (MAX_SAMPLE_ROUNDS - 1));
  const message = `The job would answer its prompts ${rounds} times; ${MAX_SAMPLE_ROUNDS} is the most. Set samples.every_steps to ${least} or more.`;
  throw new ProductError('invalid_job', message, { param: 'samples.every_steps' });
}
