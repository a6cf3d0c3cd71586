import { SeededRandom } from '@lorasmith/seeded-random';
import { Ajv2020 } from 'ajv/dist/2020.js';
import ajvFormats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import { JsonGrammars } from './json-grammars.js';
import { JsonTerms } from './json-terms.js';
import { checkSchema, termOfSchema } from './schema-terms.js';
import { EMPTY, GrammarTooLargeError, NOTHING, Terms } from './terms.js';
import { TokenMasks, TokenTrie } from './token-masks.js';

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajvFormats.default(ajv);

/** Every byte, and what vocabularies have of JSON: several parts in one token, and parts of characters. */
const WORDS =
  '{" ":" , ": ": "," ", " "}, {"a "}} ]} [[ ]] [1 ,1 12 123 00 .5 e1 -1 true false null tru e, "" ","" ab abc name ' +
  '\\" \\\\ \\u00 \\n é ü€ 😀 a": {"name": "b":[ 2024 -0 10- T1 :00';
const TOKENS: Uint8Array[] = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...[...WORDS.split(' '), ' ', '\n', '  ', '\n  ', ': ', ', ', '{ ', '{\n  "'].map((word) => Buffer.from(word)),
  ...[[0xf0, 0x9f], [0xc3], [0xa9, 0x22], [0x82, 0xac]].map((bytes) => Uint8Array.from(bytes)),
].filter(({ length }) => length > 0);
const STOP = TOKENS.length;
const trie = new TokenTrie([...TOKENS, null]);
const grammars = new JsonGrammars(trie, [STOP]);

const isSet = (mask: Uint32Array, id: number) => (mask[id >>> 5]! & (1 << (id & 31))) !== 0;

/** A text of random tokens; null: cut before its end. Long strings and deep nesting become unlikely. */
function randomText(schema: unknown, random: SeededRandom, most = 300): string | null {
  const constraint = grammars.of(schema)();
  const bytes: number[] = [];
  for (let count = 0; count < most && !constraint.isComplete; count++) {
    const mask = constraint.allowed();
    const allowed = [...trie.tokens.keys()].filter((id) => isSet(mask, id));
    const isEnd = (id: number) => id === STOP || '"]}'.includes(String.fromCharCode(TOKENS[id]![0]!));
    const ends = allowed.filter(isEnd);
    const from = ends.length > 0 && random.next() < 0.3 + count / most ? ends : allowed;
    const id = from[Math.floor(random.next() * from.length)]!;
    if (id === STOP) return Buffer.from(bytes).toString();
    bytes.push(...TOKENS[id]!);
    constraint.accept(id);
  }
  return constraint.isComplete ? Buffer.from(bytes).toString() : null;
}

/** A random schema of what is supported. */
function randomSchema(random: SeededRandom, depth = 0): unknown {
  const pick = <Value>(values: readonly Value[]) => values[Math.floor(random.next() * values.length)]!;
  const maybe = (chance: number) => random.next() < chance;
  const range = (min: string, max: string, most: number) => {
    const low = Math.floor(random.next() * most);
    return {
      ...(maybe(0.5) ? { [min]: low } : {}),
      ...(maybe(0.5) ? { [max]: low + Math.floor(random.next() * most) } : {}),
    };
  };
  const leaves = [
    () => ({ type: 'string', ...range('minLength', 'maxLength', 6) }),
    () => ({ type: 'string', format: pick(['date', 'time', 'date-time', 'uuid', 'ipv4']) }),
    () => {
      const [low, width] = [Math.floor((random.next() - 0.5) * 3_000), Math.floor(random.next() * 1_200)];
      const [min, max] = [pick(['minimum', 'exclusiveMinimum']), pick(['maximum', 'exclusiveMaximum'])];
      return {
        type: pick(['integer', 'number']),
        ...(maybe(0.5) ? { [min]: low } : {}),
        ...(maybe(0.5) ? { [max]: low + 2 + width } : {}),
      };
    },
    () => ({ type: pick(['boolean', 'null', 'number', 'integer']) }),
    () => ({ enum: ['a', 'ab', 'abc', 1, 1.5, null, { a: [1] }].slice(0, 1 + Math.floor(random.next() * 7)) }),
    () => ({ const: pick(['x"y\\z', 12, ['é'], true]) }),
    () => ({ type: ['string', 'null', 'integer'], maxLength: 3, description: 'Any of these.' }),
  ];
  if (depth >= 3 || maybe(0.3)) return pick(leaves)();
  const below = () => randomSchema(random, depth + 1);
  const names = ['name', 'a', 'b', 'n"q', 'été', 'nam'].slice(0, Math.floor(random.next() * 7));
  const inner = [
    () => ({ type: 'array', items: below(), ...range('minItems', 'maxItems', 4) }),
    () => ({
      type: 'object',
      properties: Object.fromEntries(names.map((name) => [name, below()])),
      required: names.filter(() => maybe(0.6)),
      ...(maybe(0.7) ? { additionalProperties: maybe(0.5) ? false : below() } : {}),
    }),
    () => ({ anyOf: [below(), below(), below()] }),
    () => ({ type: 'object', additionalProperties: below() }),
  ];
  return pick(inner)();
}

describe('texts of a schema', () => {
  test('are valid, for random schemas and random tokens', () => {
    let complete = 0;
    for (let seed = 0; seed < 150; seed++) {
      const random = new SeededRandom(seed, 'schemas');
      const schema = randomSchema(random);
      const validate = ajv.compile(schema as object);
      for (let i = 0; i < 2; i++) {
        const text = randomText(schema, random);
        if (text === null) continue;
        complete++;
        const isValid = validate(JSON.parse(text));
        if (!isValid) throw new Error(`${JSON.stringify(schema)}\n${text}\n${ajv.errorsText(validate.errors)}`);
      }
    }
    expect(complete).toBeGreaterThan(250);
  });

  test('are all texts of the grammar: masks are what every token alone would be', () => {
    for (let seed = 0; seed < 12; seed++) {
      const random = new SeededRandom(seed, 'masks');
      const terms = new Terms();
      const masks = new TokenMasks(terms, trie);
      let term = termOfSchema(randomSchema(random), terms, new JsonTerms(terms));
      const after = (id: number) => TOKENS[id]!.reduce((state, byte) => terms.next(state, byte), term);
      for (let count = 0; count < 40 && term !== EMPTY; count++) {
        const mask = masks.of(term);
        const allowed = [...TOKENS.keys()].filter((id) => after(id) !== NOTHING);
        expect([...TOKENS.keys()].filter((id) => isSet(mask, id))).toEqual(allowed);
        if (allowed.length === 0) break;
        term = after(allowed[Math.floor(random.next() * allowed.length)]!);
      }
    }
  });

  const accepts = (schema: unknown, text: string) => {
    const constraint = grammars.of(schema)();
    for (const byte of Buffer.from(text)) {
      if (!isSet(constraint.allowed(), byte)) return false;
      constraint.accept(byte);
    }
    return constraint.isComplete || isSet(constraint.allowed(), STOP);
  };

  test('are those of bounds that no number of 15 digits reaches, such as those of the integers of zod', () => {
    const safe = { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER };
    for (const text of ['0', '-5', '123456789012345']) expect(accepts(safe, text)).toBe(true);
    expect(accepts({ ...safe, minimum: 0 }, '-5')).toBe(false);
    const float32 = { type: 'number', minimum: -3.4028234663852886e38, exclusiveMaximum: 3.4028234663852886e38 };
    expect(accepts(float32, '-0.25')).toBe(true);
    expect(accepts(float32, '1e99')).toBe(false);
  });

  test('are those that people write', () => {
    const person = {
      type: 'object',
      properties: {
        name: { type: 'string' },
        age: { type: 'integer', minimum: 0 },
        tags: { type: 'array', items: { type: 'string' } },
      },
      required: ['name', 'age'],
      additionalProperties: false,
    };
    for (const text of [
      '{"name":"Ada","age":36}',
      '{"name": "Ada \\u00e9 \\"x\\" 😀", "age": 0, "tags": ["a", "b"]}',
      '{\n  "name": "Ada",\n  "age": 36,\n  "tags": [\n    "a"\n  ]\n}',
    ]) {
      expect([text, accepts(person, text)]).toEqual([text, true]);
    }
    for (const text of [
      '{"age":36,"name":"Ada"}',
      '{"name":"Ada"}',
      '{"name":"Ada","age":-1}',
      '{"name":"Ada","age":36,}',
      '{"name":"Ada","age":36,"x":1}',
      '{"name":"A\nda","age":36}',
      '{"name":"\\ud800","age":36}',
      '{"name":"Ada","age":036}',
      ' {"name":"Ada","age":36}',
    ]) {
      expect([text, accepts(person, text)]).toEqual([text, false]);
    }
    expect(accepts({ type: 'object' }, '{"a": [1.5e3, {"b": null}], "c": {}}')).toBe(true);
    expect(accepts(true, '[]')).toBe(true);
  });

  test('may be recursive', () => {
    const tree = {
      type: 'object',
      properties: { value: { type: 'number' }, children: { type: 'array', items: { $ref: '#' } } },
      required: ['value', 'children'],
      additionalProperties: false,
    };
    expect(accepts(tree, '{"value": 1, "children": [{"value": 2, "children": []}]}')).toBe(true);
    expect(accepts(tree, '{"value": 1, "children": [{"value": 2}]}')).toBe(false);
    const list = {
      $ref: '#/$defs/node',
      $defs: { node: { anyOf: [{ type: 'null' }, { type: 'array', items: { $ref: '#/$defs/node' } }] } },
    };
    expect(accepts(list, '[null, [[], null]]')).toBe(true);
  });

  test('nest no deeper than a bound, and still end', () => {
    const constraint = grammars.of({
      $defs: { a: { anyOf: [{ type: 'null' }, { type: 'array', items: { $ref: '#/$defs/a' } }] } },
      $ref: '#/$defs/a',
    })();
    let depth = 0;
    for (; isSet(constraint.allowed(), 0x5b) && depth < 10_000; depth++) constraint.accept(0x5b);
    expect(depth).toBeGreaterThan(50);
    expect(depth).toBeLessThan(1_000);
    for (let i = 0; i < depth; i++) {
      expect(isSet(constraint.allowed(), 0x5d)).toBe(true);
      constraint.accept(0x5d);
    }
    expect(constraint.isComplete).toBe(true);
  });
});

test.each([
  [{ type: 'string', pattern: '^a' }, 'pattern', 'The keyword pattern is not supported.'],
  [{ type: 'object', properties: { a: { oneOf: [] } } }, 'properties.a.oneOf', 'The keyword oneOf is not supported.'],
  [{ type: 'string', format: 'email' }, 'format', 'The format "email" is not supported: only date,'],
  [{ type: 'strin' }, 'type', 'type must be one or several of object'],
  [{ minLength: 3 }, 'minLength', 'minLength needs a type beside it.'],
  [{ $ref: 'https://example.com/a' }, '$ref', 'A reference must be to a part of this schema'],
  [{ $ref: '#/$defs/a' }, '$ref', 'There is nothing at #/$defs/a.'],
  [{ $ref: '#' }, '$ref', 'The reference refers to itself.'],
  [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, 'anyOf.0.$ref', 'The reference refers to itself.'],
  [
    { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] },
    'properties.a.$ref',
    'No value of finite size satisfies it: it requires itself.',
  ],
  [{ type: 'array', minItems: 3, maxItems: 2 }, '', 'No value satisfies the schema.'],
  [{ type: 'object', additionalProperties: false, required: ['a'] }, '', 'No value satisfies the schema.'],
  [{ type: 'number', minimum: 5, maximum: 3 }, '', 'No value satisfies the schema.'],
  [{ type: 'number', minimum: -3, exclusiveMaximum: -5 }, '', 'No value satisfies the schema.'],
  [{ type: 'array', uniqueItems: true }, 'uniqueItems', 'uniqueItems is not supported.'],
  [{ type: 'array', minItems: 1e9 }, 'minItems', 'minItems must be an integer from 0 to 100000.'],
  [{ type: 'number', minimum: 0.5 }, 'minimum', 'Bounds of numbers must be integers.'],
  [{ enum: Array(1_001).fill(1) }, 'enum', 'The schema has more than 1000 values.'],
  [{ const: 'x'.repeat(600) }, 'const', 'A value is longer than 500 bytes of JSON.'],
  [{ anyOf: [true], type: 'string' }, 'type', 'type beside anyOf is not supported.'],
  [[], '', 'It is not a schema'],
])('the schema %.60j is refused by name', (schema, path, message) => {
  expect(() => checkSchema(schema)).toThrow(
    expect.objectContaining({ path, message: expect.stringContaining(message) }),
  );
});

test('schemas that are deep, wide or ambiguous are refused, or stay within bounds', () => {
  let deep: unknown = { type: 'null' };
  for (let i = 0; i < 2_000; i++) deep = { type: 'array', items: deep };
  expect(() => checkSchema(deep)).toThrow('nested deeper');
  // As docs/limits.md says, whatever the levels are.
  const levels: ((within: unknown) => unknown)[] = [
    (items) => ({ type: 'array', items }),
    (a) => ({ type: 'object', properties: { a } }),
    (additionalProperties) => ({ type: 'object', additionalProperties }),
    (one) => ({ anyOf: [one] }),
  ];
  for (const level of levels) {
    const nested = (count: number) => {
      let schema: unknown = { type: 'null' };
      for (let i = 0; i < count; i++) schema = level(schema);
      return schema;
    };
    expect(() => checkSchema(nested(32))).not.toThrow();
    expect(() => checkSchema(nested(33))).toThrow('nested deeper than 32 levels');
  }
  const names = Array.from({ length: 501 }, (_, i) => `p${i}`);
  const wide = { type: 'object', properties: Object.fromEntries(names.map((name) => [name, {}])) };
  expect(() => checkSchema(wide)).toThrow('An object may have 500 properties.');
  const long = names.slice(1).map((name) => name.padStart(240, 'x'));
  expect(() => checkSchema({ type: 'object', required: long })).toThrow('too many states');
  // Two alternatives at each level, of which a text decides at its end: 2^n stacks of n, if they were not shared.
  const item = (max: number) => ({ type: 'array', items: { $ref: '#' }, maxItems: max });
  const constraint = grammars.of({ anyOf: [item(1), item(2), { type: 'array', items: { $ref: '#' }, minItems: 1 }] })();
  for (let i = 0; i < 100; i++) {
    expect(isSet(constraint.allowed(), 0x5b)).toBe(true);
    constraint.accept(0x5b);
  }
});

/** Schemas by name, each of which refers to the next. */
function chainOf(length: number, link: (next: object) => object) {
  const schemas = Array.from({ length }, (_, i) => [`a${i}`, link({ $ref: `#/$defs/a${i + 1}` })]);
  return { $ref: '#/$defs/a0', $defs: { ...Object.fromEntries(schemas), [`a${length}`]: { type: 'null' } } };
}

test.each([
  ['alone', 1_900, (next: object) => next],
  ['in arrays', 900, (items: object) => ({ type: 'array', items, minItems: 1 })],
  ['in objects', 900, (a: object) => ({ type: 'object', properties: { a }, required: ['a'] })],
])('references %s may lead on, as far as there may be schemas', (_name, length, link) => {
  checkSchema(chainOf(length, link));
  expect(() => checkSchema(chainOf(10_000, link))).toThrow('more than 2000 schemas');
});

test('a schema is compiled so many times that one with references to it under several names is refused', () => {
  const spelled = (i: number) => [...'aaaaaaaa'].map((letter, bit) => ((i >> bit) & 1 ? '%61' : letter)).join('');
  const anyOf = Array.from({ length: 200 }, (_, i) => ({ $ref: `#/$defs/${spelled(i)}` }));
  const wide = { anyOf: Array(1_000).fill({ type: 'string', format: 'date-time' }) };
  expect(() => checkSchema({ anyOf, $defs: { aaaaaaaa: wide } })).toThrow('more than 2000 schemas');
  expect(() => checkSchema({ type: Array(8).fill('null') })).toThrow('type must be one or several of');
  expect(() => checkSchema({ type: 'number', minimum: 1e15 })).toThrow('a number of up to 15 digits');
  expect(() => checkSchema({ type: 'integer', exclusiveMaximum: -1e15 })).toThrow('a number of up to 15 digits');
});

test('a text has more characters that are counted than an arena has states for', () => {
  const long = { type: 'string', minLength: 8_000, maxLength: 12_000 };
  const rest = { anyOf: [{ $ref: '#' }, { type: 'null' }] };
  const schema = { type: 'object', properties: { a: long, b: rest }, required: ['b'] };
  const constraint = new JsonGrammars(trie, [STOP]).of(schema)();
  const accept = (text: string) => {
    for (const byte of Buffer.from(text)) {
      expect(isSet(constraint.allowed(), byte)).toBe(true);
      constraint.accept(byte);
    }
  };
  accept('{"a":"');
  const four = TOKENS.findIndex((token) => Buffer.from(token).toString() === 'name');
  for (let count = 0; count < 3_000; count++) {
    expect(isSet(constraint.allowed(), 0x22)).toBe(count >= 2_000);
    constraint.accept(four);
  }
  expect(isSet(constraint.allowed(), 0x78)).toBe(false);
  accept('","b":{"b":null}}');
  expect(constraint.isComplete).toBe(true);
});

test('a schema that fills arenas with few tokens is too large', () => {
  const anyOf = Array.from({ length: 490 }, (_, i) => ({
    type: 'array',
    items: { enum: [null, i] },
    maxItems: 100 + i,
  }));
  const constraint = new JsonGrammars(trie, [STOP]).of({ anyOf })();
  const acceptMany = () => {
    for (const byte of Buffer.from(`[${'null,'.repeat(50)}`)) constraint.accept(byte);
  };
  expect(acceptMany).toThrow(GrammarTooLargeError);
});

test('a vocabulary that lacks what must come next ends the text with an error', () => {
  const [open] = [Buffer.from('{')];
  const few = new JsonGrammars(new TokenTrie([open, null]), [1]).of({ type: 'object' })();
  few.accept(0);
  expect(() => few.allowed()).toThrow('The tokenizer has no token');
});
