import { ANNOTATIONS, DEFINITIONS } from './schema-terms.js';

/** A function that may be called. */
export interface CallableFunction {
  name: string;
  /** A JSON schema of the arguments. @defaultValue any object */
  parameters?: unknown;
}

/** The schema of a call of one of these functions: an object with its name, and under a key its arguments. */
export function schemaOfCall(functions: readonly CallableFunction[], argumentsKey: string): unknown {
  return {
    anyOf: functions.map(({ name, parameters = { type: 'object' } }, index) => ({
      type: 'object',
      properties: {
        name: { const: name },
        [argumentsKey]: movedSchema(parameters, `#/anyOf/${index}/properties/${argumentsKey}`),
      },
      required: ['name', argumentsKey],
      additionalProperties: false,
    })),
  };
}

/** The function whose parameters have a path in the schema of a call, and the path in them; null for one of the call itself. */
export function placeInCall(path: string, argumentsKey: string): { index: number; path: string } | null {
  const [of, index, properties, key, ...rest] = path.split('.');
  const isThere = of === 'anyOf' && properties === 'properties' && key === argumentsKey;
  return isThere ? { index: Number(index), path: rest.join('.') } : null;
}

/** Keywords whose objects have schemas by name: a name is no keyword. */
const OF_SCHEMAS_BY_NAME = new Set(['properties', ...DEFINITIONS]);
/** Keywords whose values are no schemas: what looks like a reference there is data. */
const OF_VALUES = new Set(['const', 'enum', ...ANNOTATIONS]);

/** A schema whose references are to its own parts, at another place of a larger one, as a JSON pointer: `#/anyOf/0`. */
export function movedSchema(schema: unknown, place: string): unknown {
  if (Array.isArray(schema)) return schema.map((part) => movedSchema(part, place));
  return mapValues(schema, (value, key) => {
    if (key === '$ref' && typeof value === 'string') return value.replace(/^#/, place);
    if (OF_VALUES.has(key)) return value;
    if (OF_SCHEMAS_BY_NAME.has(key)) return mapValues(value, (part) => movedSchema(part, place));
    return movedSchema(value, place);
  });
}

function mapValues(object: unknown, change: (value: unknown, key: string) => unknown): unknown {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return object;
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value, key)]));
}
