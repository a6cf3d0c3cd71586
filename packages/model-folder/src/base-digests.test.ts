import { expect, test } from 'vitest';
import { baseDifference } from './base-digests.js';

const [A, B] = ['a'.repeat(64), 'b'.repeat(64)];

test.each([
  [{ weights_sha256: A, architecture_sha256: A }, null],
  [{ weights_sha256: B, architecture_sha256: A }, 'weights'],
  [{ weights_sha256: A, architecture_sha256: B }, 'config.json'],
  [{ weights_sha256: B, architecture_sha256: B }, 'weights'],
])('%o differs in its %s', (made, difference) => {
  expect(baseDifference(made, { weights_sha256: A, architecture_sha256: A })).toBe(difference);
});
