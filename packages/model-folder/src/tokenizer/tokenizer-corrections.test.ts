import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { keepNewerCharacters } from './tokenizer-corrections.js';

const { digests } = JSON.parse(
  await readFile(join(import.meta.dirname, '../fixtures/tokenizers/added-tokens.json'), 'utf8'),
) as { digests: Record<string, string> };

/** A normalizer as the library makes it. */
function normalizerOf(form: string): (text: string) => string {
  const normalizer = { config: { type: form }, normalize: (text: string) => text.normalize(form) };
  keepNewerCharacters({ config: { type: 'Sequence' }, normalizers: [null, normalizer], normalize: (text) => text });
  return (text) => normalizer.normalize(text);
}

test.each(Object.entries(digests))('%s of every character is that of the crate', (form, expected) => {
  const normalize = normalizerOf(form);
  const hash = createHash('sha256');
  for (let first = 0; first < 0x110000; first += 0x400) {
    const codes = Array.from({ length: 0x400 }, (_, i) => first + i).filter((code) => code < 0xd800 || code >= 0xe000);
    const letters = codes.map((code) => String.fromCodePoint(code));
    hash.update(normalize(letters.map((letter) => `a\u0301${letter}\u0334${letter} `).join('')));
  }
  expect(hash.digest('hex')).toBe(expected);
});
