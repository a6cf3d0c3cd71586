import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { NamedSchemas } from './openapi-plugin.js';

const Inner = Type.Object({ n: Type.Integer() }, { $id: 'Inner' });
const Outer = Type.Object({ inner: Inner, list: Type.Array(Inner) }, { $id: 'Outer' });

test('named schemas move to the components and are referenced, also nested ones', () => {
  const named = new NamedSchemas();
  const paths = named.marked({ body: Outer, other: Type.Union([Inner, Type.Null()]) });
  expect(named.completed({ paths })).toEqual({
    paths: {
      body: { $ref: '#/components/schemas/Outer' },
      other: { anyOf: [{ $ref: '#/components/schemas/Inner' }, { type: 'null' }] },
    },
    components: {
      schemas: {
        Inner: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } },
        Outer: {
          type: 'object',
          required: ['inner', 'list'],
          properties: {
            inner: { $ref: '#/components/schemas/Inner' },
            list: { type: 'array', items: { $ref: '#/components/schemas/Inner' } },
          },
        },
      },
    },
  });
});

test('two different schemas with the same name are refused', () => {
  const named = new NamedSchemas();
  named.marked(Inner);
  expect(() => named.marked(Type.String({ $id: 'Inner' }))).toThrow('two different schemas are named Inner');
});

test('a property called $id is a property', () => {
  const named = new NamedSchemas();
  const schema = Type.Object({ $id: Type.String() });
  expect(named.marked(schema)).toEqual({ type: 'object', required: ['$id'], properties: { $id: { type: 'string' } } });
});
