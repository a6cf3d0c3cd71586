import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { type CodedFault, FaultList } from './fault-list.js';

const tooLong = (line: number, tokens: number): CodedFault => ({
  code: 'row_too_long',
  message: `The row has ${tokens} tokens; the limit is 16.`,
  line,
  tokens,
});

function errorOf(faults: FaultList): ProductError {
  try {
    faults.throwIfAny();
  } catch (error) {
    return error as ProductError;
  }
  throw new Error('there was no fault');
}

test('the message names the longest row, also where it is not listed', () => {
  const rows = new FaultList();
  for (let line = 1; line <= 150; line++) rows.add(tooLong(line, line === 120 ? 999 : 20));
  const faults = new FaultList();
  faults.addAll(rows);
  const { message, details } = errorOf(faults);
  expect(message).toBe(
    'Line 1: The row has 20 tokens; the limit is 16. (150 faults in all, of which the first 100 are listed; the longest row, line 120, has 999 tokens)',
  );
  expect(details).toHaveLength(100);
  expect(details.at(-1)).toMatchObject({ line: 120, tokens: 999 });
});

test('the longest row of a validation dataset is named with it', () => {
  const ofDataset = new FaultList();
  ofDataset.add(tooLong(1, 30), tooLong(2, 40));
  const faults = new FaultList();
  faults.addOfDataset('ds_1', ofDataset);
  expect(errorOf(faults).message).toContain('the longest row, line 2 of ds_1, has 40 tokens');
});

test('one fault says everything itself', () => {
  const faults = new FaultList();
  faults.add(tooLong(3, 20));
  expect(errorOf(faults)).toBeInstanceOf(ProductError);
  expect(errorOf(faults).message).toBe('Line 3: The row has 20 tokens; the limit is 16.');
});
