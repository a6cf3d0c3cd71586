import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { scope } from '../tensor.js';
import { toFloat32Array } from '../transfer.js';
import { momentTables } from './adamw.js';

test.each([
  [0, 'first', 'e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c'],
  [1, 'second', '305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398'],
])('the values of the codes are those of bitsandbytes 0.50.2, table %i: of the %s moment', (table, _, sha256) => {
  const values = scope(() => toFloat32Array(momentTables())).slice(256 * table, 256 * (table + 1));
  expect(values).toHaveLength(256);
  expect(createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex')).toBe(sha256);
});
