import type { RowTokens } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { tokenRuns, visibleText } from './token-runs.js';

/** Each character is a token; the large ones are trained. */
function rowOf(text: string, ...sequences: [start: number, tokens: number][]): RowTokens {
  const data = [...text].map((one, id) => ({ id, text: one, trained: one !== one.toLowerCase() }));
  const parts = sequences.map(([start, tokens]) => ({ start, tokens }));
  return { total: data.length, trained: 0, outcome: 'complete', sequences: parts, data };
}

const shown = (row: RowTokens) =>
  tokenRuns(row).map(
    ({ use, isCut, tokens }) => `${isCut ? '|' : ''}${use} ${tokens.map(({ text }) => text).join('')}`,
  );

test('neighbours with the same use are one run', () => {
  expect(shown(rowOf('abCDe', [0, 5]))).toEqual(['read ab', 'trained CD', 'read e']);
  expect(shown(rowOf('', [0, 0]))).toEqual([]);
});

test('what is in no sequence is left out, and a sequence within the row starts a run', () => {
  expect(shown(rowOf('abCd', [0, 3]))).toEqual(['read ab', 'trained C', 'left-out d']);
  expect(shown(rowOf('aBcDef', [0, 2], [2, 2]))).toEqual([
    'read a',
    'trained B',
    '|read c',
    'trained D',
    'left-out ef',
  ]);
  expect(shown(rowOf('ab'))).toEqual(['left-out ab']);
  // Only the first tokens of a row are shown.
  expect(shown(rowOf('aB', [0, 50]))).toEqual(['read a', 'trained B']);
});

test('line breaks, tabs and parts of characters are visible', () => {
  expect(visibleText('a\n\n')).toBe('a↵\n↵\n');
  expect(visibleText('\t')).toBe('⇥\t');
  expect(visibleText('')).toBe('◌');
});
