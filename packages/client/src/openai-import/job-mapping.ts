import {
  type Dataset,
  type FineTuningHyperparameters,
  fineTuningTraining,
  type ImportedSettings,
  isGiven,
  isLabel,
  type JobRequest,
  otherTraining,
  PREFERENCE_LEARNING_RATE,
  ProductError,
  UNIT_LEARNING_RATE,
} from '@lorasmith/contracts';
import { graderOf } from './grader-mapping.js';
import type { SourceJob } from './source.js';

/** The base model that jobs are trained on here. */
export interface TargetModel {
  name: string;
  max_positions: number | null;
}

/** The rows of a job, as they are stored here. */
export interface StoredFiles {
  training: Dataset;
  validation: Dataset | null;
}

/** A job of the source as a job of this service. */
export interface MappedJob {
  settings: ImportedSettings;
  /** The differences from the job there, a sentence each. */
  differs: string[];
  /** True if its rows are stored as prompts with a reference. */
  areRowsGraded: boolean;
  request(files: StoredFiles): JobRequest;
}

/** A method of the source. */
interface Method {
  /** The learning rate at a multiplier of 1. */
  unitRate: number;
  /** The training and the objective of the job. */
  settings(rows: number): Pick<JobRequest, 'objective'> & { training: NonNullable<JobRequest['training']> };
  differs: string[];
}

interface Context {
  job: SourceJob;
  hyperparameters: FineTuningHyperparameters;
  target: TargetModel;
}

const NAMED = ['n_epochs', 'batch_size', 'learning_rate_multiplier'] as const;
type MethodName = ImportedSettings['method'];

const METHODS: Readonly<Record<MethodName, (context: Context) => Method>> = { supervised, dpo, reinforcement };

function supervised({ job, hyperparameters, target }: Context): Method {
  return {
    unitRate: UNIT_LEARNING_RATE,
    settings: (rows) => ({ training: fineTuningTraining('supervised', hyperparameters, sizesOf(rows, job, target)) }),
    differs: unknownSettings(job, NAMED),
  };
}

function dpo({ job, hyperparameters, target }: Context): Method {
  const { beta } = job.method.hyperparameters;
  return {
    unitRate: PREFERENCE_LEARNING_RATE,
    settings: (rows) => ({
      objective: { kind: 'preference', ...(typeof beta === 'number' ? { beta } : {}) },
      training: fineTuningTraining('dpo', hyperparameters, sizesOf(rows, job, target)),
    }),
    differs: [
      ...(typeof beta === 'number' ? [] : ['beta was automatic there; here it is 0.1.']),
      ...unknownSettings(job, [...NAMED, 'beta']),
    ],
  };
}

/** Tokens of a sampled answer, if the model has room for a prompt of as many. */
const ANSWER_TOKENS = 512;

function reinforcement({ job, hyperparameters, target }: Context): Method {
  const { grader, differs } = graderOf(job.method.grader);
  const { n_epochs: epochs, batch_size: batch, learning_rate_multiplier: multiplier } = hyperparameters;
  const { max_positions: positions } = target;
  const tokens = Math.min(ANSWER_TOKENS, Math.floor((positions ?? Number.POSITIVE_INFINITY) / 2));
  return {
    unitRate: PREFERENCE_LEARNING_RATE,
    settings: () => ({
      objective: { kind: 'group-relative', grader, max_completion_tokens: tokens },
      training: {
        ...(isGiven(epochs) ? { epochs } : { epochs: 1 }),
        // One prompt in each pass, as by default.
        ...(isGiven(batch) ? { batch_size: 1, gradient_accumulation_steps: batch } : {}),
        ...(isGiven(multiplier) ? { learning_rate: multiplier * PREFERENCE_LEARNING_RATE } : {}),
        ...otherTraining({ seed: job.seed, maxPositions: positions }),
        // A prompt that is cut would ask something else.
        on_overflow: 'drop',
      },
    }),
    differs: [
      ...differs,
      'Answers are sampled and rewarded as in GRPO, 8 to each prompt. The algorithm there is not published.',
      `A sampled answer has up to ${tokens} tokens here (objective.max_completion_tokens).`,
      ...(job.method.responseFormat === null
        ? []
        : ['response_format is not applied while answers are sampled: a grader json_schema can reward the form.']),
      ...unknownSettings(job, NAMED),
    ],
  };
}

function sizesOf(rows: number, { seed }: SourceJob, { max_positions: maxPositions }: TargetModel) {
  return { rows, seed, maxPositions };
}

/**
 * The job here that does what a job of the source did, on another base model.
 * @throws ProductError `invalid_job` for one that cannot be taken over
 */
export function mappedJob(job: SourceJob, target: TargetModel): MappedJob {
  const name = job.method.type;
  if (!Object.hasOwn(METHODS, name)) {
    throw refused('method.type', `Its method ${JSON.stringify(name)} is not known here.`);
  }
  const hyperparameters = hyperparametersOf(job);
  const { unitRate, settings, differs } = METHODS[name as MethodName]({ job, hyperparameters, target });
  const { suffix, seed, metadata } = job;
  const title = suffix !== null && suffix.length <= MAX_SUFFIX && isLabel(suffix) ? suffix : null;
  const { n_epochs = 'auto', batch_size = 'auto', learning_rate_multiplier: multiplier = 'auto' } = hyperparameters;
  return {
    settings: {
      method: name as MethodName,
      n_epochs,
      batch_size,
      learning_rate: multiplier === 'auto' ? 'auto' : rounded(multiplier * unitRate),
      seed,
      name: title,
    },
    differs: [
      `It was trained on ${job.model}; here it is trained on ${target.name}.`,
      ...rateSentence(multiplier, unitRate),
      ...automatic(hyperparameters),
      ...(isFineTuned(job.model)
        ? [
            `It continued the training of ${job.model}; here it begins from ${target.name} itself. lora.init_from continues an adapter.`,
          ]
        : []),
      ...(job.hasIntegrations ? ['Its integrations are not set up here. The events of the job have its metrics.'] : []),
      ...(title === null && suffix !== null ? ['Its suffix cannot be a name here, so it has none.'] : []),
      ...differs,
    ],
    areRowsGraded: name === 'reinforcement',
    request: ({ training, validation }) => ({
      base_model: target.name,
      dataset: training.id,
      ...settings(training.rows),
      ...(validation === null ? {} : { validation: { dataset: validation.id } }),
      ...(title === null ? {} : { name: title }),
      metadata,
    }),
  };
}

/** The longest suffix that OpenAI takes. */
const MAX_SUFFIX = 64;

function hyperparametersOf({ method: { hyperparameters } }: SourceJob): FineTuningHyperparameters {
  const given = NAMED.flatMap((name) => {
    const value = hyperparameters[name];
    if (value == null || value === 'auto') return [];
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return [[name, value] as const];
    throw refused(`hyperparameters.${name}`, `Its ${name} is neither a number above 0 nor "auto".`);
  });
  return Object.fromEntries(given);
}

function rateSentence(multiplier: number | 'auto', unitRate: number): string[] {
  if (multiplier === 'auto') return [];
  const text = `learning_rate_multiplier ${multiplier} is a rate of ${rounded(multiplier * unitRate)} here (times ${unitRate}): there it multiplied a rate that is not published.`;
  return [text];
}

function automatic(hyperparameters: FineTuningHyperparameters): string[] {
  const names = NAMED.filter((name) => !isGiven(hyperparameters[name]));
  if (names.length === 0) return [];
  const [verb, they] = names.length === 1 ? ['was', 'it is'] : ['were', 'they are'];
  return [`${names.join(', ')} ${verb} automatic there; here ${they} chosen from the rows, too.`];
}

/** Settings of the method that have no counterpart. */
function unknownSettings({ method }: SourceJob, known: readonly string[]): string[] {
  const names = Object.entries(method.hyperparameters)
    .filter(([name, value]) => !known.includes(name) && value != null && /^[\w.-]{1,64}$/.test(name))
    .map(([name]) => name);
  return names.length === 0 ? [] : [`There is no such setting here, so it is left out: ${names.join(', ')}.`];
}

const isFineTuned = (model: string) => model.startsWith('ft:');
/** The number without the digits that floating point adds to a product. */
const rounded = (value: number) => Number(value.toPrecision(12));

function refused(param: string, message: string): ProductError {
  return new ProductError('invalid_job', message, { param });
}
