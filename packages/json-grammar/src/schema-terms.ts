import { JsonTerms, MAX_DIGITS } from './json-terms.js';
import { productiveRules, ruleWithinItself } from './term-walks.js';
import { NOTHING, type Term, Terms } from './terms.js';

/** A schema that is not supported, or not satisfiable. */
export class SchemaError extends Error {
  /** The path in the schema, from its root: `properties.a.pattern`. Empty for the root. */
  readonly path: string;

  constructor(path: readonly string[], message: string) {
    super(message);
    this.name = 'SchemaError';
    this.path = path.join('.');
  }
}

const MAX_DEPTH = 32;
/** Schemas within a schema. Each time that one is compiled counts: its references may lead to the same one under several names. */
const MAX_SCHEMAS = 2_000;
const MAX_PROPERTIES = 500;
const MAX_ENUM_VALUES = 1_000;
const MAX_LITERAL_BYTES = 500;
const MAX_COUNT = 100_000;
const LARGEST = 10 ** MAX_DIGITS - 1;
/** Limits, for docs/limits.md. */
export const schemaLimits = {
  depth: { value: MAX_DEPTH, unit: 'levels', beyond: '400 `invalid_request`' },
  schemas: { value: MAX_SCHEMAS, unit: 'schemas', beyond: '400 `invalid_request`' },
  properties: { value: MAX_PROPERTIES, unit: 'properties', beyond: '400 `invalid_request`' },
  values: {
    value: MAX_ENUM_VALUES,
    unit: `values of up to ${MAX_LITERAL_BYTES} bytes of JSON`,
    beyond: '400 `invalid_request`',
  },
  counts: { value: MAX_COUNT, unit: 'items or characters', beyond: '400 `invalid_request`' },
};

/** Keywords that say nothing about a value. */
const ANNOTATIONS = new Set(
  '$schema $id $comment title description default examples deprecated readOnly writeOnly'.split(' '),
);
/** Keywords that have schemas for references. */
const DEFINITIONS = ['$defs', 'definitions'];
const OF_TYPES: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
};
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'];
const OF_TYPE = new Set(Object.values(OF_TYPES).flat());
const KNOWN = new Set(['type', 'enum', 'const', 'anyOf', 'allOf', '$ref', ...DEFINITIONS, ...OF_TYPE]);

type Path = readonly string[];
type Schema = Readonly<Record<string, unknown>>;

/** @throws SchemaError, GrammarTooLargeError */
export function checkSchema(schema: unknown): void {
  const terms = new Terms();
  termOfSchema(schema, terms, new JsonTerms(terms));
}

/**
 * The JSON texts of a schema (JSON Schema 2020-12, the part of it that docs/api.md names). They may be fewer than the schema
 * allows: properties come in the order of the schema, and others only with `additionalProperties`.
 * @throws SchemaError, GrammarTooLargeError
 */
export function termOfSchema(schema: unknown, terms: Terms, json: JsonTerms): Term {
  return new SchemaCompiler(schema, terms, json).compile();
}

class SchemaCompiler {
  readonly #root: unknown;
  readonly #terms: Terms;
  readonly #json: JsonTerms;
  /** The rule of each reference, by its pointer. */
  readonly #rules = new Map<string, { term: Term; path: Path }>();
  /** The bodies of rules, which are made one after the other: references may lead on and on. */
  readonly #bodies: (() => void)[] = [];
  readonly #formats = new Map<string, Term>();
  #enumValues = 0;
  #schemas = 0;
  #depth = 0;

  constructor(root: unknown, terms: Terms, json: JsonTerms) {
    this.#root = root;
    this.#terms = terms;
    this.#json = json;
  }

  compile(): Term {
    const term = this.#schema(this.#root, []);
    for (let make = this.#bodies.pop(); make !== undefined; make = this.#bodies.pop()) make();
    if (term === NOTHING) throw new SchemaError([], 'No value satisfies the schema.');
    const rules = [...this.#rules.values()];
    const within = ruleWithinItself(
      this.#terms,
      rules.map((rule) => rule.term),
    );
    const wrong = rules.find((rule) => rule.term === within);
    if (wrong !== undefined) throw new SchemaError(wrong.path, 'The reference refers to itself.');
    const productive = productiveRules(this.#terms);
    const endless = rules.find((rule) => !productive.has(rule.term));
    if (endless !== undefined) {
      throw new SchemaError(endless.path, 'No value of finite size satisfies it: it requires itself.');
    }
    return term;
  }

  /** Each schema within another is a level, whether it is of a property, of items or of a choice. */
  #schema(schema: unknown, path: Path): Term {
    if (this.#depth > MAX_DEPTH) throw new SchemaError(path, `The schema is nested deeper than ${MAX_DEPTH} levels.`);
    this.#depth++;
    try {
      return this.#termOf(schema, path);
    } finally {
      this.#depth--;
    }
  }

  #termOf(schema: unknown, path: Path): Term {
    if (++this.#schemas > MAX_SCHEMAS) {
      throw new SchemaError(path, `The schema has more than ${MAX_SCHEMAS} schemas within it.`);
    }
    if (schema === true) return this.#json.value;
    if (schema === false) return NOTHING;
    if (!isObject(schema)) throw new SchemaError(path, 'It is not a schema: an object, true or false.');
    const keywords = Object.keys(schema).filter((key) => !ANNOTATIONS.has(key) && !DEFINITIONS.includes(key));
    for (const key of keywords) {
      if (!KNOWN.has(key)) throw new SchemaError([...path, key], `The keyword ${key.slice(0, 100)} is not supported.`);
    }
    const alone = (key: string, ...beside: string[]) => {
      const other = keywords.find((one) => one !== key && !beside.includes(one));
      if (other !== undefined) throw new SchemaError([...path, other], `${other} beside ${key} is not supported.`);
    };
    if ('$ref' in schema) {
      alone('$ref');
      return this.#reference(schema.$ref, [...path, '$ref']);
    }
    if ('const' in schema) {
      alone('const', 'type');
      return this.#values([schema.const], schema, [...path, 'const']);
    }
    if ('enum' in schema) {
      alone('enum', 'type');
      return this.#values(listOf(schema, 'enum', path), schema, [...path, 'enum']);
    }
    for (const key of ['anyOf', 'allOf']) {
      if (!(key in schema)) continue;
      alone(key);
      const of = listOf(schema, key, path);
      if (key === 'allOf' && of.length !== 1) {
        throw new SchemaError([...path, key], 'allOf is supported only with a single schema.');
      }
      return this.#terms.choice(of.map((one, index) => this.#schema(one, [...path, key, String(index)])));
    }
    return this.#terms.choice(typesOf(schema, keywords, path).map((type) => this.#ofType(type, schema, path)));
  }

  #ofType(type: string, schema: Schema, path: Path): Term {
    switch (type) {
      case 'object':
        return this.#object(schema, path);
      case 'array':
        return this.#array(schema, path);
      case 'string':
        return this.#string(schema, path);
      case 'number':
        return this.#number(schema, path);
      case 'integer':
        return this.#integer(schema, path);
      case 'boolean':
        return this.#json.boolean;
      default:
        return this.#json.null;
    }
  }

  #reference(pointer: unknown, path: Path): Term {
    if (typeof pointer !== 'string' || !/^#(\/|$)/.test(pointer)) {
      throw new SchemaError(path, 'A reference must be to a part of this schema, such as #/$defs/name.');
    }
    const known = this.#rules.get(pointer);
    if (known !== undefined) return known.term;
    let target: unknown = this.#root;
    const keys = pointer.split('/').slice(1);
    for (const key of keys) {
      const name = decodeURIComponentOf(key, path).replaceAll('~1', '/').replaceAll('~0', '~');
      const isThere = typeof target === 'object' && target !== null && Object.hasOwn(target, name);
      if (!isThere) throw new SchemaError(path, `There is nothing at ${pointer.slice(0, 100)}.`);
      target = (target as Schema)[name];
    }
    const term = this.#terms.newRule();
    this.#rules.set(pointer, { term, path });
    this.#bodies.push(() => this.#terms.define(term, this.#schema(target, keys)));
    return term;
  }

  #values(values: readonly unknown[], schema: Schema, path: Path): Term {
    this.#enumValues += values.length;
    if (this.#enumValues > MAX_ENUM_VALUES) {
      throw new SchemaError(path, `The schema has more than ${MAX_ENUM_VALUES} values.`);
    }
    const types = 'type' in schema ? typesOf(schema, ['type'], path.slice(0, -1)) : TYPES;
    const texts = values
      .filter((value) => types.some((type) => isOfType(value, type)))
      .map((value) => JSON.stringify(value));
    const long = texts.find((text) => Buffer.byteLength(text) > MAX_LITERAL_BYTES);
    if (long !== undefined) {
      throw new SchemaError(path, `A value is longer than ${MAX_LITERAL_BYTES} bytes of JSON.`);
    }
    return this.#terms.choice(texts.map((text) => this.#terms.text(text)));
  }

  #string(schema: Schema, path: Path): Term {
    const [min, max] = [countOf(schema, 'minLength', path) ?? 0, countOf(schema, 'maxLength', path)];
    const { format } = schema;
    if (format === undefined) return this.#json.stringOf(min, max ?? Number.POSITIVE_INFINITY);
    if (min > 0 || max !== null) throw new SchemaError([...path, 'format'], 'format with a length is not supported.');
    return this.#format(format, [...path, 'format']);
  }

  #format(format: unknown, path: Path): Term {
    const made = this.#formats.get(format as string);
    if (made !== undefined) return made;
    const formats = formatTerms(this.#terms);
    if (typeof format !== 'string' || !Object.hasOwn(formats, format)) {
      const names = Object.keys(formats).join(', ');
      const what = JSON.stringify(format)?.slice(0, 100);
      throw new SchemaError(path, `The format ${what} is not supported: only ${names}.`);
    }
    const quote = this.#terms.text('"');
    const term = this.#terms.unit(this.#terms.sequence(quote, formats[format]!(), quote));
    this.#formats.set(format, term);
    return term;
  }

  #integer(schema: Schema, path: Path): Term {
    const bound = (key: string) => numberOf(schema, key, path);
    const [min, max] = [bound('minimum'), bound('maximum')];
    const [above, below] = [bound('exclusiveMinimum'), bound('exclusiveMaximum')];
    if (min === null && max === null && above === null && below === null) return this.#json.integer;
    const least = Math.max(
      Math.ceil(min ?? Number.NEGATIVE_INFINITY),
      Math.floor(above ?? Number.NEGATIVE_INFINITY) + 1,
    );
    const most = Math.min(
      Math.floor(max ?? Number.POSITIVE_INFINITY),
      Math.ceil(below ?? Number.POSITIVE_INFINITY) - 1,
    );
    return this.#json.integerWithin(least, most);
  }

  #number(schema: Schema, path: Path): Term {
    const bounds = OF_TYPES.number!.map((key) => [key, numberOf(schema, key, path)] as const);
    const fractional = bounds.find(([, bound]) => bound !== null && !Number.isInteger(bound));
    if (fractional !== undefined) {
      throw new SchemaError([...path, fractional[0]], 'Bounds of numbers must be integers.');
    }
    const {
      minimum = null,
      maximum = null,
      exclusiveMinimum = null,
      exclusiveMaximum = null,
    } = Object.fromEntries(bounds);
    if (bounds.every(([, bound]) => bound === null)) return this.#json.number;
    return this.#json.numberWithin({ minimum, maximum, exclusiveMinimum, exclusiveMaximum });
  }

  #array(schema: Schema, path: Path): Term {
    const [min, max] = [countOf(schema, 'minItems', path) ?? 0, countOf(schema, 'maxItems', path)];
    if (schema.uniqueItems !== undefined && schema.uniqueItems !== false) {
      throw new SchemaError([...path, 'uniqueItems'], 'uniqueItems is not supported.');
    }
    if (max !== null && max < min) return NOTHING;
    const item = this.#schema(schema.items ?? true, [...path, 'items']);
    if (item === NOTHING) return min === 0 ? this.#json.arrayOf(this.#json.null, 0, 0) : NOTHING;
    return this.#json.arrayOf(item, min, max ?? Number.POSITIVE_INFINITY);
  }

  #object(schema: Schema, path: Path): Term {
    const { properties = {}, additionalProperties: additional } = schema;
    if (!isObject(properties)) throw new SchemaError([...path, 'properties'], 'properties must be an object.');
    const required = new Set(schema.required === undefined ? [] : listOf(schema, 'required', path));
    const names = [...new Set([...Object.keys(properties), ...required])];
    if (names.length > MAX_PROPERTIES) {
      throw new SchemaError([...path, 'properties'], `An object may have ${MAX_PROPERTIES} properties.`);
    }
    const other = () => this.#schema(additional ?? true, [...path, 'additionalProperties']);
    if (names.length === 0) {
      return additional === undefined ? this.#json.object : this.#json.mapOf(this.#json.string, other());
    }
    const members = names.map((name): { term: Term; isRequired: boolean } => {
      if (typeof name !== 'string' || Buffer.byteLength(name) > MAX_LITERAL_BYTES / 2) {
        const what = `The names of properties are texts of up to ${MAX_LITERAL_BYTES / 2} bytes.`;
        throw new SchemaError([...path, 'required'], what);
      }
      const isListed = Object.hasOwn(properties, name);
      const value = isListed ? this.#schema(properties[name], [...path, 'properties', name]) : other();
      const key = this.#terms.text(JSON.stringify(name));
      return { term: this.#json.member(key, value), isRequired: required.has(name) };
    });
    // Without additionalProperties others would be allowed, but nobody expects them.
    const further = additional === undefined || additional === false ? NOTHING : other();
    return this.#json.objectOf(members, this.#json.member(this.#json.keyOtherThan(names as string[]), further));
  }
}

function typesOf(schema: Schema, keywords: readonly string[], path: Path): readonly string[] {
  const { type } = schema;
  if (type === undefined) {
    const [first] = keywords;
    if (first === undefined) return TYPES;
    const kinds = Object.keys(OF_TYPES).filter((kind) => keywords.some((key) => OF_TYPES[kind]!.includes(key)));
    if (kinds.length === 1 && (kinds[0] === 'object' || kinds[0] === 'array')) return kinds;
    throw new SchemaError([...path, first], `${first} needs a type beside it.`);
  }
  const types = Array.isArray(type) ? type : [type];
  const unknown = types.find((one) => !TYPES.includes(one));
  if (types.length === 0 || types.length > TYPES.length || unknown !== undefined) {
    throw new SchemaError([...path, 'type'], `type must be one or several of ${TYPES.join(', ')}.`);
  }
  return types;
}

function isOfType(value: unknown, type: string): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isObject(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}

function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function listOf(schema: Schema, key: string, path: Path): readonly unknown[] {
  const list = schema[key];
  if (Array.isArray(list) && (list.length > 0 || key === 'required')) return list;
  throw new SchemaError([...path, key], `${key} must be a list.`);
}

function countOf(schema: Schema, key: string, path: Path): number | null {
  const count = schema[key];
  if (count === undefined) return null;
  if (Number.isInteger(count) && (count as number) >= 0 && (count as number) <= MAX_COUNT) return count as number;
  throw new SchemaError([...path, key], `${key} must be an integer from 0 to ${MAX_COUNT}.`);
}

/** A bound that no number of {@link MAX_DIGITS} digits can reach, such as those of 64-bit integers, becomes the last of these numbers. */
function numberOf(schema: Schema, key: string, path: Path): number | null {
  const bound = schema[key];
  if (bound === undefined) return null;
  const sign = key === 'minimum' || key === 'exclusiveMinimum' ? -1 : 1;
  if (typeof bound === 'number' && sign * bound > -(10 ** MAX_DIGITS)) return sign * Math.min(sign * bound, LARGEST);
  throw new SchemaError([...path, key], `${key} must be a number of up to ${MAX_DIGITS} digits.`);
}

function decodeURIComponentOf(text: string, path: Path): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new SchemaError(path, 'The reference is not a JSON pointer.');
  }
}

/** Texts of the formats of JSON Schema that are supported (RFC 3339, RFC 9562), without the 29th of February. */
function formatTerms(terms: Terms): Record<string, () => Term> {
  const digit = terms.byte([0x30, 0x39]);
  const hex = terms.byte([0x30, 0x39], [0x61, 0x66]);
  const text = terms.text.bind(terms);
  const sequence = terms.sequence.bind(terms);
  /** Numbers of two digits. */
  const two = (first: number, last: number) =>
    terms.choice(Array.from({ length: last - first + 1 }, (_, i) => text(String(first + i).padStart(2, '0'))));
  const months = (...numbers: number[]) => terms.choice(numbers.map((month) => two(month, month)));
  const date = () =>
    sequence(
      terms.byte([0x31, 0x39]),
      terms.repeat(digit, 3, 3),
      text('-'),
      terms.choice([
        sequence(two(1, 12), text('-'), two(1, 28)),
        sequence(months(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), text('-'), two(29, 30)),
        sequence(months(1, 3, 5, 7, 8, 10, 12), text('-31')),
      ]),
    );
  const time = () => {
    const fraction = terms.optional(sequence(text('.'), terms.repeat(digit, 1, 9)));
    const offset = sequence(terms.byte(0x2b, 0x2d), two(0, 23), text(':'), two(0, 59));
    const zone = terms.choice([text('Z'), offset]);
    return sequence(two(0, 23), text(':'), two(0, 59), text(':'), two(0, 59), fraction, zone);
  };
  const byte = () => terms.choice(['25', '2', '1', ''].map(firstDigits));
  const firstDigits = (first: string) => {
    if (first === '25') return sequence(text('25'), terms.byte([0x30, 0x35]));
    if (first === '2') return sequence(text('2'), terms.byte([0x30, 0x34]), digit);
    if (first === '1') return sequence(text('1'), digit, digit);
    return terms.choice([digit, sequence(terms.byte([0x31, 0x39]), digit)]);
  };
  const group = (length: number) => terms.repeat(hex, length, length);
  return {
    date,
    time,
    'date-time': () => sequence(date(), text('T'), time()),
    uuid: () => sequence(group(8), text('-'), group(4), text('-'), group(4), text('-'), group(4), text('-'), group(12)),
    ipv4: () => sequence(byte(), text('.'), byte(), text('.'), byte(), text('.'), byte()),
  };
}

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
