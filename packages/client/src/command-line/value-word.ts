/** The part of a schema that says which values there are. */
export interface SettingSchema {
  type?: string;
  enum?: readonly unknown[];
  const?: unknown;
  anyOf?: readonly SettingSchema[];
}

/** Longer lists of choices are in the description alone. */
const MAX_CHOICES = 28;

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
