import { expect, test } from 'vitest';
import { TextSeal } from './sealed-text.js';

const KEY = 'k'.repeat(40);
const seal = new TextSeal(KEY);

test('a text is opened with the same key and for the same subject alone', () => {
  const sealed = seal.seal('hf_geheim ä', 'token of one');
  expect(sealed).not.toContain('geheim');
  expect(new TextSeal(KEY).open(sealed, 'token of one')).toBe('hf_geheim ä');
  expect(seal.open(sealed, 'token of another')).toBeNull();
  expect(new TextSeal(`${KEY}x`).open(sealed, 'token of one')).toBeNull();
});

test('the same text is never sealed to the same bytes', () => {
  expect(seal.seal('x', 'y')).not.toBe(seal.seal('x', 'y'));
});

test('a text of which any byte was changed is not opened', () => {
  const sealed = seal.seal('hf_x', 's');
  const bytes = Buffer.from(sealed.slice(3), 'base64url');
  for (let position = 0; position < bytes.length; position++) {
    const changed = Buffer.from(bytes);
    changed[position]! ^= 1;
    expect(seal.open(`v1.${changed.toString('base64url')}`, 's')).toBeNull();
  }
});

test.each(['', 'v1', 'v1.', 'v1.AAAA', `v2.${'A'.repeat(64)}`, 'no seal'])('%j is not opened', (text) => {
  expect(seal.open(text, 's')).toBeNull();
});
