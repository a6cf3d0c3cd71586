import { sweepValueText } from '@lorasmith/client/core';
import type { Sweep, SweepVariant, VariantValues } from '@lorasmith/contracts';
import { jobFields } from '../new-job/job-fields.js';
import { distinctValues } from './value-axis.js';

/** A field of the job that the variants of a sweep have different values of. */
export interface VariedField {
  /** Such as `training.learning_rate`. */
  path: string;
  /** The label in the form of a job. */
  label: string;
  /** Such as `learning_rate`. */
  shortName: string;
}

const FIELDS = jobFields();

/** The fields of a sweep that differ; if none does, those that it names. */
export function variedFields({ variants, request }: Pick<Sweep, 'variants' | 'request'>): VariedField[] {
  const paths = Object.keys(request.space);
  const differ = paths.filter((path) => distinctValues(variants.map(({ values }) => values[path] ?? null)).length > 1);
  const names = paths.map(lastName);
  return (differ.length === 0 ? paths : differ).map((path) => {
    const name = lastName(path);
    const isUnique = names.indexOf(name) === names.lastIndexOf(name);
    return { path, label: fieldLabel(path), shortName: isUnique ? name : path };
  });
}

export function fieldLabel(path: string): string {
  return FIELDS.find(({ id }) => id === path)?.label ?? path;
}

function lastName(path: string): string {
  return path.split('.').at(-1)!;
}

/** A variant in few words: `#3: r 8, learning_rate 0.001`. */
export function variantText(fields: readonly VariedField[], { variant, values }: SweepVariant): string {
  const texts = fields.map(({ path, shortName }) => `${shortName} ${sweepValueText(values[path])}`);
  return `#${variant}: ${texts.join(', ')}`;
}

/** The best variant; undefined before the sweep has one. */
export function bestOf({ variants, best }: Pick<Sweep, 'variants' | 'best'>): SweepVariant | undefined {
  return variants.find(({ job }) => job === best);
}

/** The fields of the form with which the job of a variant trains twice as long. */
export function twiceAsLong({ request }: Pick<Sweep, 'request'>, values: VariantValues): Record<string, string> {
  const { training = {} } = request.job;
  const steps = values['training.max_steps'] ?? training.max_steps;
  if (typeof steps === 'number') return { 'training.max_steps': String(2 * steps) };
  const preset = FIELDS.find(({ id }) => id === 'training.epochs')?.preset;
  return { 'training.epochs': String(2 * Number(values['training.epochs'] ?? training.epochs ?? preset)) };
}
