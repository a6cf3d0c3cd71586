import { type Fault, fieldHint, nestsDeeperThan, ProductError, patternHint, valueHint } from '@lorasmith/contracts';
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

/** More faults would not help the reader, and a crafted body can have a million. */
export const MAX_FAULTS = 100;
/** Limits, for docs/limits.md. */
export const faultLimits = {
  faults: { value: MAX_FAULTS, unit: 'faults', beyond: 'the rest are left out' },
};

/** Ajv's errors as faults with the path of the field (`lora.r`). For a union, only those of the branches whose type and kind match. */
export function validationFaults(errors: readonly ErrorObject[]): Fault[] {
  const unions = errors.filter(({ keyword }) => keyword === 'anyOf');
  const faults: Fault[] = [];
  const seen = new Set<string>();
  for (const error of errors) {
    if (faults.length === MAX_FAULTS) break;
    if (unions.some((union) => isWithin(union, error))) continue;
    for (const fault of error.keyword === 'anyOf' ? faultsOfUnion(error, errors) : [faultOf(error)]) {
      const key = `${fault.param} ${fault.message}`;
      if (!seen.has(key)) faults.push(fault);
      seen.add(key);
    }
  }
  return faults;
}

/** A branch may have unions of its own. */
function faultsOfUnion(union: ErrorObject, errors: readonly ErrorObject[]): Fault[] {
  const branches = matchingBranches(union, errors);
  const [first] = branches;
  if (first === undefined) return [{ ...faultOf(union), message: `${nameOf(union)} ${types(union)}.` }];
  if (!branches.every((error) => isKindOf(union, error) && error.instancePath === first.instancePath)) {
    return validationFaults(branches);
  }
  const kinds = new Set(branches.map(({ params }) => String(params.allowedValue)));
  return [invalid(first, pathOf(first.instancePath), `must be one of: ${[...kinds].join(', ')}`)];
}

function isWithin(union: ErrorObject, error: ErrorObject): boolean {
  return error !== union && error.schemaPath.startsWith(`${union.schemaPath}/`);
}

/**
 * The errors of the branches whose type matches the value, and whose `kind` or other constant field does if that of any branch does; empty if no
 * branch matches.
 */
function matchingBranches(union: ErrorObject, errors: readonly ErrorObject[]): ErrorObject[] {
  const within = errors.filter((error) => isWithin(union, error) && error.instancePath.startsWith(union.instancePath));
  const branchOf = (error: ErrorObject) => error.schemaPath.slice(union.schemaPath.length + 1).split('/', 1)[0];
  const without = (all: readonly ErrorObject[], isUnfit: (error: ErrorObject) => boolean) => {
    const unfit = new Set(all.filter(isUnfit).map(branchOf));
    return all.filter((error) => !unfit.has(branchOf(error)));
  };
  const ofType = without(
    within,
    ({ keyword, instancePath }) => keyword === 'type' && instancePath === union.instancePath,
  );
  const ofKind = without(ofType, (error) => isKindOf(union, error));
  // No branch has this kind: only that is said.
  return ofKind.length > 0 ? ofKind : ofType.filter((error) => isKindOf(union, error));
}

/** True for a field of the union's value that has another constant in this branch, such as `kind`. */
function isKindOf(union: ErrorObject, error: ErrorObject): boolean {
  const within = error.schemaPath.slice(union.schemaPath.length);
  return isWithin(union, error) && /^\/[^/]+\/properties\/[^/]+\/const$/.test(within);
}

/** The types that a union allows. */
function types(union: ErrorObject): string {
  const branches: unknown = union.schema;
  const names = Array.isArray(branches) ? branches.flatMap((branch) => branch?.type ?? []) : [];
  return names.length > 0 ? `must be ${names.join(' or ')}` : 'has none of the allowed forms';
}

function faultOf(error: ErrorObject): Fault {
  const path = pathOf(error.instancePath);
  const within = (key: string) => (path === '' ? key : `${path}.${key}`);
  switch (error.keyword) {
    case 'additionalProperties': {
      const name = String(error.params.additionalProperty).slice(0, 100);
      const param = within(name);
      const hint = fieldHint(name, path);
      const message = `There is no field ${param}.${hint === undefined ? '' : ` ${hint}`}`;
      return { code: 'unknown_field', message, param };
    }
    case 'required': {
      const param = within(String(error.params.missingProperty));
      return { code: 'invalid_request', message: `${param} is missing.`, param };
    }
    case 'enum': {
      const allowed = (error.params.allowedValues as unknown[]).join(', ');
      const hint = valueHint(path, error.data);
      return invalid(
        error,
        path,
        `must be one of: ${allowed}${hint === undefined ? '' : `. ${hint.replace(/\.$/, '')}`}`,
      );
    }
    case 'const':
      return invalid(error, path, `must be ${JSON.stringify(error.params.allowedValue)}`);
    case 'pattern':
      return invalid(error, path, patternMeaning(String(error.params.pattern)));
    default:
      return invalid(error, path, error.message ?? 'is not valid');
  }
}

function patternMeaning(pattern: string): string {
  const hint = patternHint(pattern);
  return hint === undefined ? `must match ${pattern}` : `must be ${hint}`;
}

function invalid(error: ErrorObject, path: string, message: string): Fault {
  const fault: Fault = { code: 'invalid_request', message: `${nameOf(error)} ${message}.` };
  return path === '' ? fault : { ...fault, param: path };
}

function nameOf(error: ErrorObject): string {
  return pathOf(error.instancePath) || 'The body';
}

/** `/lora/target_modules/0` → `lora.target_modules.0`, with RFC 6901 escapes decoded. */
function pathOf(instancePath: string): string {
  const parts = instancePath.slice(1).split('/');
  return parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~').slice(0, 100)).join('.');
}
