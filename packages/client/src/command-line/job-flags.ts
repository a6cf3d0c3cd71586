import { readFile } from 'node:fs/promises';
import {
  type JobRequest,
  LoraSettings,
  ObjectiveRequest,
  ProductError,
  RECIPES,
  type Recipe,
  TrainingSettings,
  ValidationSettings,
  withRecipe,
} from '@lorasmith/contracts';
import { settingOf } from '../report-text.js';
import type { CommandOptions } from './command.js';
import { tagsOf } from './details-commands.js';

/** Longer lists of choices are in the description alone. */
const MAX_CHOICES = 28;

/** The job settings that have flags. They are derived from the contracts: each new setting gets a flag. */
const SECTIONS = {
  lora: LoraSettings,
  training: TrainingSettings,
  validation: ValidationSettings,
  objective: ObjectiveRequest,
} as const;

/** Flags that are not named after their property. */
const NAMES: Readonly<Record<string, string>> = { 'objective.kind': 'objective' };

export interface JobFlag {
  /** The flag without `--`, for example `learning-rate`. */
  flag: string;
  section: keyof typeof SECTIONS;
  property: string;
  /** The word for its value. */
  value: string;
  description: string;
}

export const JOB_FLAGS: readonly JobFlag[] = Object.entries(SECTIONS).flatMap(([section, schema]) =>
  Object.entries(schema.properties).map(([property, setting]) => {
    const { description, default: preset } = setting as {
      description?: string;
      default?: string | number | boolean | string[] | object | null;
    };
    const isEmpty = preset === undefined || (typeof preset === 'object' && preset !== null && !Array.isArray(preset));
    const usual = isEmpty ? '' : ` [${String(preset)}]`;
    return {
      // The section is added where the property name alone is ambiguous.
      flag: (
        NAMES[`${section}.${property}`] ?? (section === 'validation' ? `validation_${property}` : property)
      ).replaceAll('_', '-'),
      section: section as keyof typeof SECTIONS,
      property,
      value: valueWordOf(setting as SettingSchema),
      description: `${description ?? ''}${usual}`.trim(),
    };
  }),
);

/** The headings of the settings in the help of a command. */
const GROUPS: Readonly<Record<JobFlag['section'], string>> = {
  lora: 'LoRA',
  training: 'Training',
  validation: 'Held-out rows',
  objective: 'Objective',
};

/** The options of every command that makes a job: its fields, and a file with them. */
export const JOB_OPTIONS: CommandOptions = {
  model: { type: 'string', value: 'NAME', help: 'the base model' },
  name: { type: 'string', value: 'NAME', help: 'of the job and its adapter' },
  tags: { type: 'string', value: 'TAG[,TAG]', help: 'of the job, to find it by' },
  note: { type: 'string', value: 'TEXT', help: 'a text of your own, with the job' },
  request: { type: 'string', value: 'FILE', help: 'the request as JSON; options override it' },
  recipe: {
    type: 'string',
    value: 'NAME',
    help: `settings that go together: ${RECIPES.map(({ name }) => name).join(', ')}; options and --request override them. See below`,
  },
  priority: { type: 'string', value: 'low|normal|high', help: 'among the jobs of the key [normal]' },
  sample: {
    type: 'string',
    multiple: true,
    value: 'PROMPT',
    help: 'a prompt that is answered before, during and after training; may be repeated',
  },
  'sample-every-steps': { type: 'string', value: 'N', help: 'answers them every N steps too' },
  'sample-held-out-rows': {
    type: 'string',
    value: 'N',
    help: 'answers N held-out rows, too: exact match, F1 and ROUGE-L [0]',
  },
  ...Object.fromEntries(
    JOB_FLAGS.map(({ flag, section, value, description }) => [
      flag,
      { type: 'string' as const, value, help: description, group: GROUPS[section] },
    ]),
  ),
};

/** The lines about `--recipe` below the options. */
export const RECIPE_HELP: readonly string[] = [
  'What --recipe sets:',
  ...RECIPES.map(({ name, description }) => `    ${name.padEnd(11)} ${description}`),
];

/** The recipe of `--recipe NAME`; undefined without it. @throws ProductError `invalid_request` */
function recipeOf(values: Record<string, unknown>): Recipe | undefined {
  const name = values.recipe as string | undefined;
  const recipe = RECIPES.find((one) => one.name === name);
  if (name === undefined || recipe !== undefined) return recipe;
  const names = RECIPES.map((one) => one.name).join(', ');
  throw new ProductError('invalid_request', `There is no recipe ${name}. The recipes are ${names}.`, {
    param: 'recipe',
  });
}

/** The content of `--request FILE`; empty without it. @throws ProductError `invalid_request`, also if there is no such recipe */
export async function readRequest(values: Record<string, unknown>): Promise<Partial<JobRequest>> {
  // Before anything is uploaded.
  recipeOf(values);
  const file = values.request as string | undefined;
  if (file === undefined) return {};
  let request: unknown;
  try {
    request = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new ProductError('invalid_request', `Cannot read ${file} as JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof request === 'object' && request !== null && !Array.isArray(request)) return request;
  throw new ProductError('invalid_request', `${file} is not the JSON object of a request.`);
}

/**
 * The request in `base`, overridden by the flags; the settings of `--recipe` where neither has them. The server validates the values.
 *
 * @throws ProductError `invalid_request` when model or dataset are missing, or there is no such recipe
 */
export function jobRequestOf(values: Record<string, unknown>, base: Partial<JobRequest> = {}): JobRequest {
  const given = (flag: string) => values[flag] as string | undefined;
  const base_model = given('model') ?? base.base_model;
  const dataset = given('dataset') ?? base.dataset;
  if (base_model === undefined || dataset === undefined) {
    throw new ProductError('invalid_request', 'A job needs --model NAME and --dataset ID.', {
      param: base_model === undefined ? 'base_model' : 'dataset',
    });
  }
  const request: Record<string, unknown> = { ...base, base_model, dataset };
  for (const field of ['name', 'note', 'priority']) {
    const text = given(field);
    if (text !== undefined) request[field] = text;
  }
  const tags = given('tags');
  if (tags !== undefined) request.tags = tagsOf(tags);
  const samples = samplesOf(values, base.samples ?? null);
  if (samples !== null) request.samples = samples;
  for (const { flag, section, property } of JOB_FLAGS) {
    const text = given(flag);
    if (text === undefined) continue;
    const value = MODULE_LISTS.includes(property) && text !== 'null' ? moduleListOf(text) : settingOf(text);
    request[section] = { ...(request[section] as object | undefined), [property]: value };
  }
  const recipe = recipeOf(values);
  return recipe === undefined ? (request as JobRequest) : withRecipe(recipe, request as JobRequest);
}

/** Prompts on the command line replace those of the request. @throws ProductError `invalid_request` */
function samplesOf(values: Record<string, unknown>, base: NonNullable<JobRequest['samples']> | null) {
  const prompts = (values.sample as string[] | undefined) ?? base?.prompts;
  const everySteps = values['sample-every-steps'] as string | undefined;
  const heldOut = values['sample-held-out-rows'] as string | undefined;
  if (prompts === undefined && heldOut === undefined && base?.held_out_rows === undefined) {
    if (everySteps === undefined) return null;
    const message = '--sample-every-steps needs a prompt, --sample PROMPT, or --sample-held-out-rows N.';
    throw new ProductError('invalid_request', message, { param: 'samples' });
  }
  return {
    ...base,
    ...(prompts === undefined ? {} : { prompts }),
    ...(heldOut === undefined ? {} : { held_out_rows: settingOf(heldOut) as number }),
    ...(everySteps === undefined ? {} : { every_steps: settingOf(everySteps) as number | null }),
  };
}

/** Settings that are a list of module names, or a regular expression. */
const MODULE_LISTS = ['target_modules', 'target_parameters', 'exclude_modules'];

/** `a,b` is a list of suffixes, and so is JSON, such as `[]`; `all-linear`, and text that cannot be a list, is sent as it is. */
function moduleListOf(text: string): unknown {
  if (text.startsWith('[')) return settingOf(text);
  return text !== 'all-linear' && /^[\w.]+(,[\w.]+)*$/.test(text) ? text.split(',') : text;
}

/** The part of a schema that says which values there are. */
export interface SettingSchema {
  type?: string;
  enum?: readonly unknown[];
  const?: unknown;
  anyOf?: readonly SettingSchema[];
}

/** `N`, `true|false`, the choices of a setting, or what else its value is. */
export function valueWordOf({ type, enum: choices, const: only, anyOf }: SettingSchema): string {
  if (anyOf !== undefined) {
    const words = anyOf.filter((one) => one.type !== 'null').map(valueWordOf);
    const joined = [...new Set(words)].join('|');
    return joined.length <= MAX_CHOICES ? joined : 'VALUE';
  }
  const listed = choices ?? (only === undefined ? [] : [only]);
  if (listed.length > 0) return listed.join('|').length <= MAX_CHOICES ? listed.join('|') : 'VALUE';
  const words: Readonly<Record<string, string>> = {
    integer: 'N',
    number: 'X',
    boolean: 'true|false',
    array: 'LIST',
    object: 'JSON',
    string: 'TEXT',
  };
  return words[type ?? ''] ?? 'VALUE';
}
