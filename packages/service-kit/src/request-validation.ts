import { nestsDeeperThan, ProductError } from '@lorasmith/contracts';
import type { ErrorObject, ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { FastifyInstance, FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';

const common = {
  allErrors: true,
  removeAdditional: false,
  // Errors then have their schema, which validationFaults needs to list what a union allows.
  verbose: true,
  strict: true,
  strictTypes: false,
  strictRequired: false,
  // The schema of schemas takes long to compile. A test validates the schemas of the api.
  validateSchema: false,
} as const;

/**
 * Validates requests by their schemas. Bodies are checked as sent. Query strings and path parameters are text, so they
 * are first converted to numbers and booleans and given their defaults. A schema is compiled for its first request: to
 * compile those of all routes takes long.
 */
export function createRequestValidator(): FastifySchemaCompiler<TSchema> {
  const bodies = new Ajv2020({ ...common, coerceTypes: false, useDefaults: false });
  const texts = new Ajv2020({ ...common, coerceTypes: true, useDefaults: true });
  return ({ schema, httpPart }) => {
    let validate: ValidateFunction | undefined;
    return (value: unknown) => {
      validate ??= (httpPart === 'body' ? bodies : texts).compile(withoutIds(schema) as object);
      if (!validate(value)) return { error: validate.errors ?? [] };
      const infinite = httpPart === 'body' ? [] : infiniteNumbers(value as Record<string, unknown>);
      return infinite.length > 0 ? { error: infinite } : { value };
    };
  };
}

/** Ajv converts `Infinity` and `1e400` to numbers and does not check bounds for them. */
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

/** Names (`$id`) are for the OpenAPI document; Ajv would reject a name that is used twice. */
function withoutIds(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withoutIds);
  if (typeof node !== 'object' || node === null) return node;
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key, value]) => !(key === '$id' && typeof value === 'string'))
      .map(([key, value]) => [key, withoutIds(value)]),
  );
}

/** Limit for the parser's message, which quotes about ten characters before and after the fault. */
const MAX_REASON = 200;

/** Twice what the deepest request needs: tools, whose parameters are JSON schemas. What reads a body may go down level by level. */
const MAX_DEPTH = 128;
/** Limits, for docs/limits.md. */
export const bodyLimits = {
  nesting: { value: MAX_DEPTH, unit: 'levels', beyond: '400 `invalid_request`' },
};

/** Parses JSON bodies. An empty body counts as none, because many clients send the content type without a body. */
export function addJsonParser(app: Pick<FastifyInstance, 'addContentTypeParser' | 'getDefaultJsonParser'>): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = String(body);
    if (text === '') done(null, null);
    else
      void parse(request, text, (error, value) => {
        if (error !== null) done(notJson(text), undefined);
        else if (nestsDeeperThan(MAX_DEPTH, text)) done(tooDeep(), undefined);
        else done(null, value);
      });
  });
}

function tooDeep(): ProductError {
  return new ProductError('invalid_request', `The body is nested deeper than ${MAX_DEPTH} levels.`);
}

function notJson(text: string): ProductError {
  try {
    JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    const reason = (error as Error).message.slice(0, MAX_REASON);
    return new ProductError('invalid_json', `The body is not JSON: ${reason}.`);
  }
  return new ProductError('invalid_json', 'The body contains the key __proto__ or constructor.prototype.');
}
