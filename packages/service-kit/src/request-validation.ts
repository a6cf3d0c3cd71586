import type { ErrorObject } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';

const common = {
  allErrors: true,
  removeAdditional: false,
  // Errors carry their schema, from which validationFaults tells what a union allows.
  verbose: true,
  strict: true,
  strictTypes: false,
  strictRequired: false,
} as const;

/**
 * Checks requests by their schemas: bodies as they are, query strings and path parameters, which are only ever text,
 * made numbers and booleans first and given their defaults.
 */
export function createRequestValidator(): FastifySchemaCompiler<TSchema> {
  const bodies = new Ajv2020({ ...common, coerceTypes: false, useDefaults: false });
  const texts = new Ajv2020({ ...common, coerceTypes: true, useDefaults: true });
  return ({ schema, httpPart }) => {
    const validate = (httpPart === 'body' ? bodies : texts).compile(withoutIds(schema) as object);
    return (value: unknown) => {
      if (!validate(value)) return { error: validate.errors ?? [] };
      const infinite = httpPart === 'body' ? [] : infiniteNumbers(value as Record<string, unknown>);
      return infinite.length > 0 ? { error: infinite } : { value };
    };
  };
}

/** Ajv makes numbers of `Infinity` and `1e400`, and then holds them to no bound. */
function infiniteNumbers(texts: Record<string, unknown>): ErrorObject[] {
  const infinite = Object.entries(texts).filter(([, value]) => typeof value === 'number' && !Number.isFinite(value));
  return infinite.map(([name]) => ({
    keyword: 'type',
    instancePath: `/${name}`,
    schemaPath: '#/type',
    params: {},
    message: 'must be a finite number',
  }));
}

/** Names (`$id`) are for the OpenAPI document; within Ajv a name used twice would be a clash. */
function withoutIds(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withoutIds);
  if (typeof node !== 'object' || node === null) return node;
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key, value]) => !(key === '$id' && typeof value === 'string'))
      .map(([key, value]) => [key, withoutIds(value)]),
  );
}
