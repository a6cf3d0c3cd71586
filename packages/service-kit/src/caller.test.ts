import { expect, test } from 'vitest';
import { type Caller, callerHeaders, callerOfHeaders, EVERYTHING, mayUse } from './caller.js';

const ONE = 'key_0123456789abcdef01234567';
const OTHER = 'key_76543210fedcba9876543210';

test.each<[string, Caller]>([
  ['the operator', EVERYTHING],
  ['an admin', { owner: ONE, sees: 'all' }],
  ['a key', { owner: ONE, sees: 'own' }],
])('%s is passed in headers', (_name, caller) => {
  expect(callerOfHeaders(callerHeaders(caller))).toEqual(caller);
});

test('a request that did not come through the api sees everything', () => {
  expect(callerOfHeaders({})).toEqual(EVERYTHING);
});

test.each([
  { 'x-lorasmith-owner': ONE },
  { 'x-lorasmith-sees': 'all' },
  { 'x-lorasmith-owner': 'key_', 'x-lorasmith-sees': 'own' },
  { 'x-lorasmith-owner': ONE, 'x-lorasmith-sees': 'everything' },
  { 'x-lorasmith-owner': '', 'x-lorasmith-sees': 'own' },
  // Two headers of the same name arrive joined.
  { 'x-lorasmith-owner': `${ONE}, ${OTHER}`, 'x-lorasmith-sees': 'own' },
])('%j is refused', (headers) => {
  expect(() => callerOfHeaders(headers)).toThrowError(expect.objectContaining({ code: 'invalid_request' }));
});

test('a caller cannot use the things of another key or those without an owner', () => {
  const own: Caller = { owner: ONE, sees: 'own' };
  expect(mayUse(own, ONE)).toBe(true);
  for (const owner of [OTHER, null, undefined]) expect(mayUse(own, owner)).toBe(false);
  for (const owner of [ONE, OTHER, null, undefined]) expect(mayUse({ owner: ONE, sees: 'all' }, owner)).toBe(true);
});
