import { expect, test } from 'vitest';
import { isLabel, isPrintable } from './schema-parts.js';

test.each(['a', ' a ', '0', '👩\u200d🔬', 'می\u200cخواهم', '🏴\u{e0067}'])('%j is a label', (text) => {
  expect(isLabel(text)).toBe(true);
});

test.each(['', ' ', '\u00a0', '\u200b', '\u2060\ufe0f ', '\u3164', '\u2800', '\ufeff', 'a\nb', 'a\u202eb'])(
  '%j is none',
  (text) => {
    expect(isLabel(text)).toBe(false);
  },
);

test('text of blanks can be printed all the same', () => {
  expect([isPrintable(' \u200b'), isPrintable(''), isPrintable('a\u001bb')]).toEqual([true, true, false]);
});
