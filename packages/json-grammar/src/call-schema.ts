import { movedSchema } from './moved-schema.js';

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
