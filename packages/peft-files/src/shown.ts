const MAX_NAME_CHARACTERS = 200;
const MAX_TEXT_CHARACTERS = 120;

/** Shortens a name from a file for messages. */
export function shownName(name: string): string {
  return name.slice(0, MAX_NAME_CHARACTERS);
}

/** Shortens a value of a config for messages. Lists and objects are not printed, since their nesting has no limit. */
export function shownValue(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'string') return JSON.stringify(value.slice(0, MAX_TEXT_CHARACTERS));
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
