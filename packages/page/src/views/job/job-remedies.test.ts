import type { Job } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { mayGetFurther, remediesOf } from './job-remedies.js';

const training = {
  batch_size: 1,
  gradient_accumulation_steps: 2,
  learning_rate: 1e-3,
  base_quantization: 'none',
  on_overflow: 'error',
};
const failed = (code: string, details: object[] = [], more: object = {}) =>
  ({ kind: 'train', training: { ...training, ...more }, error: { code, message: '', details } }) as unknown as Job;
const tooLong = (tokens: number, param = 'training.max_seq_length') => ({
  code: 'row_too_long',
  message: '',
  line: 1,
  tokens,
  param,
});

test('after rows that are too long, the length of the longest comes first, and resuming is not offered', () => {
  const job = failed('row_too_long', [tooLong(1300), tooLong(5310), tooLong(1400)]);
  expect(remediesOf(job)).toEqual([
    { label: 'Like this, with rows of up to 5,310 tokens', changes: { 'training.max_seq_length': '5310' } },
    { label: 'Like this, without the rows that are too long', changes: { 'training.on_overflow': 'drop' } },
  ]);
  expect(mayGetFurther(job)).toBe(false);
});

test('a length that the model does not have is not offered', () => {
  const details = [tooLong(1300), tooLong(9000, 'training.on_overflow')];
  const changes = remediesOf(failed('row_too_long', details)).map((one) => one.changes);
  expect(changes).toEqual([{ 'training.on_overflow': 'drop' }]);
});

test('rows that were all dropped are not dropped again', () => {
  expect(remediesOf(failed('row_too_long', [], { on_overflow: 'drop' }))).toEqual([]);
});

test.each([
  ['non_finite_loss', {}, { 'training.learning_rate': '0.0002' }],
  ['out_of_memory', {}, { 'training.base_quantization': 'nf4' }],
  ['does_not_fit', { batch_size: 8 }, { 'training.batch_size': '4', 'training.gradient_accumulation_steps': '4' }],
])('after %s, a setting that may help is offered beside resuming', (code, more, changes) => {
  const job = failed(code, [], more);
  expect(remediesOf(job).map((one) => one.changes)).toEqual([changes]);
  expect(mayGetFurther(job)).toBe(true);
});

test('after a crash, only resuming helps', () => {
  expect(remediesOf(failed('trainer_crashed'))).toEqual([]);
  expect(mayGetFurther(failed('trainer_crashed'))).toBe(true);
});
