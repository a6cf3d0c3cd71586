import { createHash } from 'node:crypto';

/** The same file and settings have the same key, so a command that is repeated after a crash finds its job. */
export function repeatKeyOf(command: 'train' | 'sweep', request: object): string {
  return `lora-${command}-${createHash('sha256')
    .update(JSON.stringify(sorted(request)))
    .digest('hex')}`;
}

/** The value with the keys of its objects in alphabetical order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, each]) => [key, sorted(each)]));
}
