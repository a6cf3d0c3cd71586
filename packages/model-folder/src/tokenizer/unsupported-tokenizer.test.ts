import { expect, test } from 'vitest';
import { mayBacktrackExponentially } from './unsupported-tokenizer.js';

test.each([
  ['GPT-2', "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"],
  [
    'Llama 3 and Qwen',
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  ],
  [
    'GPT-4o',
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}]*[\\p{Ll}\\p{Lm}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  ],
  ['BLOOM', ' ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+'],
  ['Kimi', '[\\p{Han}]+|[\\p{Lu}\\p{Lt}&&[^\\p{Han}]]*[\\p{Ll}\\p{Lm}&&[^\\p{Han}]]+'],
  ['a group that is there or not', '(?:a+|b)?c'],
  ['brackets and bars that are escaped', '\\(a+\\)+|\\[\\|]+'],
])('%s is accepted', (_, source) => {
  expect(mayBacktrackExponentially(source)).toBe(false);
});

test.each([
  '(a+)+$',
  '(\\w+\\s?)+\\d',
  '(x+x+)+y',
  '(a|a)*b',
  '((a|a))*b',
  '(?:(?:a+))*b',
  '(a*){2,}',
  '(a+){9}b',
  '(.*)*x',
  '[(](b+)+',
  '([a-z]+)+b',
])('%s is detected', (source) => {
  expect(mayBacktrackExponentially(source)).toBe(true);
});
