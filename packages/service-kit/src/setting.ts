import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';

/** One environment variable: its check, default and documentation. */
export interface Setting<Result> {
  readonly kind: 'setting';
  readonly variable: string;
  readonly description: string;
  readonly unit: string | undefined;
  readonly example: string;
  /** Text as it would stand in the environment; undefined: the variable must be set. */
  readonly fallback: string | undefined;
  /** Its value is never shown, in messages or documentation. */
  readonly secret: boolean;
  /** @returns the value, or what is wrong with the text */
  parse(text: string): { value: Result } | { fault: string };
}

export interface SettingOptions<Schema extends TSchema> {
  variable: string;
  /** What the text must be once it is made a number or boolean. */
  schema: Schema;
  description: string;
  /** Of a number: milliseconds, bytes, … */
  unit?: string;
  example: string;
  fallback?: string;
  secret?: boolean;
  /** A sentence for a value that the schema refuses. @defaultValue what the schema says */
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
    parse(text) {
      const value = typedValue(schema, text);
      if (Value.Check(schema, value)) return { value: value as Static<Schema> };
      return { fault: fault ?? Value.Errors(schema, value)[0]?.message ?? 'is not valid' };
    },
  };
}

const NUMBER = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i;

/** Text as the schema's type, when it is one whole; TypeBox's own conversion would cut 1.5 to 1. */
function typedValue(schema: TSchema, text: string): unknown {
  const type = 'type' in schema ? schema.type : undefined;
  if ((type === 'integer' || type === 'number') && NUMBER.test(text)) return Number(text);
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** The same setting with its value made into something else, for instance a path made absolute. */
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
