import {
  type Dataset,
  type Fault,
  type JobSpec,
  MAX_SAMPLE_ROUNDS,
  MAX_SAMPLE_TOKENS,
  ProductError,
  type SampleSettings,
  type TrainingSettings,
} from '@lorasmith/contracts';
import type { ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import type { Examples } from './example-file/examples.js';
import type { CodedFault, FaultList } from './fault-list.js';
import type { Objective, ObjectiveJob, ScoredRow } from './objectives/objective.js';
import { countRounds } from './schedule.js';

/** The state of the training that becomes the adapter. */
export function publishedState({ publish, early_stopping }: TrainingSettings): 'last' | 'best' {
  if (publish === 'auto') return early_stopping === null ? 'last' : 'best';
  return publish;
}

/** Warns if there is no evaluation during training, only before and after it. */
export function evaluationWarnings({ training: { eval_every_steps: every } }: JobSpec, steps: number): Fault[] {
  if (every === null || every <= steps) return [];
  const message = `Training ends after ${steps} steps, so there is no evaluation every ${every} steps, only before and after training.`;
  return [{ code: 'eval_every_steps_too_large', message, param: 'training.eval_every_steps' }];
}

/** Early stopping and the best state need evaluations, and evaluations need rows to evaluate on, of one source. */
export function evaluationFaults({ training, validation }: JobSpec): CodedFault[] {
  const { eval_every_steps: every, early_stopping: stopping } = training;
  if (validation.split > 0 && validation.dataset !== null) {
    const message = 'Set validation.split or validation.dataset, not both: rows are evaluated on from one of them.';
    return [{ code: 'invalid_job', message, param: 'validation.split' }];
  }
  const hasRows = validation.split > 0 || validation.dataset !== null;
  if (every !== null && hasRows) return [];
  if (stopping === null && publishedState(training) === 'last') {
    if (every === null) return [];
    const message =
      'training.eval_every_steps needs rows to evaluate on. Set validation.split or validation.dataset too, or leave it out.';
    return [{ code: 'invalid_job', message, param: 'training.eval_every_steps' }];
  }
  const setting = stopping === null ? 'publish' : 'early_stopping';
  const lacking = [
    ...(every === null ? ['training.eval_every_steps'] : []),
    ...(hasRows ? [] : ['validation.split (or validation.dataset)']),
  ];
  const message = `training.${setting} depends on the loss in evaluations: give ${lacking.join(' and ')} too.`;
  return [{ code: 'invalid_job', message, param: `training.${setting}` }];
}

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

/** The fault of settings with which no answers to held-out rows can be compared; null without one. */
export function heldOutRowsFault(
  { samples, validation }: JobSpec,
  { format }: Pick<Dataset, 'format'>,
  { scoredRow }: Pick<Objective, 'scoredRow'>,
): CodedFault | null {
  if (samples === null) return null;
  const fault = (param: string, message: string): CodedFault => ({ code: 'invalid_job', message, param });
  const { prompts, held_out_rows: rows } = samples;
  if (rows === 0) {
    if (prompts.length > 0) return null;
    return fault('samples.prompts', 'samples asks for nothing: name prompts, or set samples.held_out_rows.');
  }
  const param = 'samples.held_out_rows';
  if (scoredRow === undefined || format === 'text') {
    const message = 'Answers are compared only with rows of a prompt and one answer. Set samples.held_out_rows to 0.';
    return fault(param, message);
  }
  if (validation.split > 0 || validation.dataset !== null) return null;
  return fault(param, 'samples.held_out_rows needs held-out rows: set validation.split or validation.dataset.');
}

/**
 * The first held-out rows that `samples.held_out_rows` asks for. A row whose prompt leaves no tokens for an answer is left out.
 */
export function scoredRows(
  validation: Examples | null,
  { scoredRow }: Pick<Objective, 'scoredRow'>,
  { samples }: JobSpec,
  { architecture }: ModelFolder,
): ScoredRow[] {
  if (samples === null || validation === null || scoredRow === undefined || architecture.kind !== 'decoder') return [];
  const most = Math.min(MAX_SAMPLE_TOKENS, architecture.maxPositions) - samples.max_tokens;
  const rows: ScoredRow[] = [];
  for (let index = 0; index < validation.count && rows.length < samples.held_out_rows; index++) {
    const row = scoredRow(validation, index);
    if (row.promptIds.length > 0 && row.promptIds.length <= most) rows.push(row);
  }
  return rows;
}
