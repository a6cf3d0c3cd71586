const MAX_NAME_CHARACTERS = 200;
const MAX_TEXT_CHARACTERS = 120;

/** A name from a file as messages have it: cut. */
export function shownName(name: string): string {
  return name.slice(0, MAX_NAME_CHARACTERS);
}

/** A value of a config as messages have it. Of lists and objects only that they are: they may be nested without end. */
export function shownValue(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'string') return JSON.stringify(value.slice(0, MAX_TEXT_CHARACTERS));
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
