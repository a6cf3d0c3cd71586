import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { dynamicValues } from './quantized-moments.js';

test.each([
  [true, 'e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c'],
  [false, '305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398'],
])('the values of the codes are those of bitsandbytes 0.50.2, signed: %s', (signed, sha256) => {
  const values = dynamicValues(signed);
  expect(values).toHaveLength(256);
  expect(createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex')).toBe(sha256);
});
