import { expect, test } from 'vitest';
import { movedSchema } from './schema-terms.js';

const PLACE = '#/anyOf/1';
const ref = { $ref: '#/$defs/a' };
const moved = { $ref: '#/anyOf/1/$defs/a' };

test('references are moved, wherever a schema has schemas', () => {
  expect(movedSchema({ $ref: '#' }, PLACE)).toEqual({ $ref: PLACE });
  expect(movedSchema({ items: ref, anyOf: [ref, true], additionalProperties: ref, $defs: { b: ref } }, PLACE)).toEqual({
    items: moved,
    anyOf: [moved, true],
    additionalProperties: moved,
    $defs: { b: moved },
  });
});

test('what looks like a reference in a value stays', () => {
  const values = { const: ref, enum: [ref, { items: ref }], default: ref, examples: [ref] };
  expect(movedSchema({ properties: { a: values } }, PLACE)).toEqual({ properties: { a: values } });
});

test('a property with the name of a keyword is a property', () => {
  const named = (value: unknown) => ({ properties: { const: value, enum: value, $ref: value, properties: value } });
  expect(movedSchema(named(ref), PLACE)).toEqual(named(moved));
  expect(movedSchema({ definitions: { const: ref } }, PLACE)).toEqual({ definitions: { const: moved } });
});

test('what is no schema stays', () => {
  for (const other of [true, null, 'a', { properties: [ref] }, { $ref: 1 }]) {
    expect(movedSchema(other, PLACE)).toEqual(other);
  }
});
