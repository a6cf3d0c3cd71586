import type { JobRequest } from './job.js';

/** A named set of job settings. Settings that a request has itself take the place of those of its recipe. */
export interface Recipe {
  /** The value of `lora train --recipe`. */
  name: string;
  /** Its name in a form. */
  title: string;
  /** Its purpose, and the settings, in one line. */
  description: string;
  settings: Pick<JobRequest, 'lora' | 'training' | 'validation'>;
}

/** The share of rows that every recipe holds out: without one, every figure would be of rows that were trained on. */
const HELD_OUT = { split: 0.05 };

/** All recipes. What a job does without one is the defaults of its schema, with no row held out. */
export const RECIPES: readonly Recipe[] = [
  {
    name: 'quick-try',
    title: 'Quick try',
    description: 'At most 30 steps: shows in minutes if the data is right.',
    settings: { training: { max_steps: 30 }, validation: HELD_OUT },
  },
  {
    name: 'standard',
    title: 'Standard',
    description: 'The defaults of the service, and 5 % of the rows held out to measure on.',
    settings: { validation: HELD_OUT },
  },
  {
    name: 'thorough',
    title: 'Thorough',
    description: 'Five epochs, rank 32, alpha 64.',
    settings: { lora: { r: 32, alpha: 64 }, training: { epochs: 5 }, validation: HELD_OUT },
  },
  {
    name: 'rslora-64',
    title: 'High rank (rsLoRA)',
    description: 'Rank 64, alpha 64, scaled by the root of the rank: for data with much to learn.',
    settings: { lora: { r: 64, alpha: 64, use_rslora: true }, validation: HELD_OUT },
  },
];

/**
 * A request with the settings of a recipe where it has none itself. A dataset to evaluate on takes the place of the share held out.
 * A section that is no object stays as it is: the service says what is wrong with it.
 */
export function withRecipe<Request extends Partial<JobRequest>>({ settings }: Recipe, request: Request): Request {
  const { validation, ...others } = settings;
  const isHeldOut = (request.validation?.dataset ?? null) === null;
  const sections = Object.entries(isHeldOut ? settings : others) as [keyof Recipe['settings'], object][];
  const filled = sections.flatMap(([name, values]) => {
    const own: unknown = request[name] ?? {};
    return typeof own === 'object' ? [[name, { ...values, ...own }]] : [];
  });
  return { ...request, ...Object.fromEntries(filled) };
}
