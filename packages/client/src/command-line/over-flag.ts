import { ProductError, type SweepField, type SweepRequest } from '@lorasmith/contracts';
import { sweepFieldOf } from '../sweep-text.js';
import type { CommandOptions } from './command.js';

/** The option for the fields that a sweep varies. */
export const OVER_OPTION = {
  over: {
    type: 'string',
    multiple: true,
    value: 'FIELD=VALUES',
    help: 'varies a field of the job; may be repeated. See below',
  },
} as const satisfies CommandOptions;

export const OVER_HELP: readonly string[] = [
  'What --over varies:',
  '    --over lora.r=4,8,16                           these values',
  `    --over 'lora.target_modules="all-linear",["q_proj"]'  lists among them: then all are JSON`,
  '    --over training.learning_rate=1e-4..3e-3:log   four of a range, by equal factors',
  '    --over training.learning_rate=1e-4..3e-3:log:6, or :linear:6   six of it',
];

/** The space of `--over FIELD=VALUES`, which may be repeated. @throws ProductError `invalid_request` */
export function spaceOf(texts: readonly string[]): SweepRequest['space'] {
  const space = new Map<string, SweepField>();
  for (const text of texts) {
    const [field = '', ...rest] = text.split('=');
    const values = rest.join('=');
    const refused = (why: string) =>
      new ProductError('invalid_request', `--over ${text}: ${why} For example --over lora.r=4,8,16`, { param: 'over' });
    if (field.trim() === '' || values === '') throw refused('it needs a field and its values.');
    if (space.has(field)) throw refused('the field is there twice.');
    space.set(field, sweepFieldOf(values));
  }
  return Object.fromEntries(space);
}
