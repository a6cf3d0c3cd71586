import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';

/** One environment variable: its check, default and documentation. */
export interface Setting<Result> {
  readonly kind: 'setting';
  readonly variable: string;
  readonly description: string;
  readonly unit: string | undefined;
  readonly example: string;
  /** Default, as text in the environment; undefined: the variable must be set. */
  readonly fallback: string | undefined;
  /** Whether its value must not appear in messages or documentation. */
  readonly secret: boolean;
  /** JSON Schema of the value, after conversion to a number or boolean. */
  readonly schema: TSchema;
  /** @returns the value, or the fault of the text */
  parse(text: string): { value: Result } | { fault: string };
}

export interface SettingOptions<Schema extends TSchema> {
  variable: string;
  /** Schema of the value, after conversion to a number or boolean. */
  schema: Schema;
  description: string;
  /** Unit of a number: milliseconds, bytes, … */
  unit?: string;
  example: string;
  fallback?: string;
  secret?: boolean;
  /** Message for a value that the schema refuses. @defaultValue the schema's own */
  fault?: string;
}

export function setting<Schema extends TSchema>(options: SettingOptions<Schema>): Setting<Static<Schema>> {
  const { variable, schema, description, unit, example, fallback, secret = false, fault } = options;
  return {
    kind: 'setting',
    variable,
    description,
    unit,
    example,
    fallback,
    secret,
    schema,
    parse(text) {
      const value = typedValue(schema, text);
      if (Value.Check(schema, value)) return { value: value as Static<Schema> };
      return { fault: fault ?? Value.Errors(schema, value)[0]?.message ?? 'is not valid' };
    },
  };
}

const NUMBER = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i;

/** Converts text to the schema's type if the complete text is valid; TypeBox's conversion would truncate 1.5 to 1. */
function typedValue(schema: TSchema, text: string): unknown {
  const type = 'type' in schema ? schema.type : undefined;
  if ((type === 'integer' || type === 'number') && NUMBER.test(text)) return Number(text);
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** The same setting with its value converted, for instance to an absolute path. */
export function mapSetting<From, To>(from: Setting<From>, map: (value: From) => To): Setting<To> {
  return {
    ...from,
    parse(text) {
      const parsed = from.parse(text);
      return 'fault' in parsed ? parsed : { value: map(parsed.value) };
    },
  };
}

/** A TCP port; 0 for any free one. */
export const Port = Type.Integer({ minimum: 0, maximum: 65_535 });
