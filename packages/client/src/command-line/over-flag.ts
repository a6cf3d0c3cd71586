import { ProductError, type SweepField, type SweepRequest } from '@lorasmith/contracts';
import { sweepFieldOf } from '../sweep-text.js';

export const OVER_HELP: readonly string[] = [
  '--over FIELD=4,8,16           tries these values of a field of the job, such as lora.r; may be repeated',
  `--over 'FIELD="all-linear",["q_proj","v_proj"]'  lists among the values: then all of them are JSON`,
  '--over FIELD=1e-4..3e-3:log   a range; with :log equal factors, with :log:6 or :linear:6 six values [4]',
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
