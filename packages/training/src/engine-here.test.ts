import { ProductError } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { cardFailure, engineError } from './engine-here.js';

test.each([
  'AddV2(float32[9]): OOM when allocating tensor with shape[9]',
  "OOM when allocating 4096 bytes: CUDA_ERROR_OUT_OF_MEMORY (2); 3 of the card's 4 bytes are in tensors",
  'Array buffer allocation failed',
])('memory that ran out (%s) is named, with what to change', (text) => {
  const cause = new Error(text);
  const error = engineError(cause, 'Use recompute: "always", which trains the same.') as ProductError;
  expect(error).toBeInstanceOf(ProductError);
  expect(error).toMatchObject({ code: 'out_of_memory', cause });
  expect(error.message).toContain('Use recompute: "always", which trains the same.');
  expect((engineError(cause) as ProductError).message).toContain('smaller batch_size');
});

test('any other error stays as it is', () => {
  for (const error of [new Error('a bug'), new ProductError('cancelled', 'OOM when allocating, says a user'), 'text']) {
    expect(engineError(error, 'advice')).toBe(error);
  }
  expect(cardFailure()).toBeNull();
});
