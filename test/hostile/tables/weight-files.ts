import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openSafetensors } from '../../../packages/weight-files/src/index.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import { safetensorsOf } from '../safetensors-bytes.js';

const file = (name: string, outcome: string, content: Uint8Array): HostileCase => ({
  name,
  outcome,
  async send({ root }) {
    const location = path.join(root, 'tmp/hostile.safetensors');
    await writeFile(location, content);
    try {
      const opened = await openSafetensors(location);
      await opened.close();
      return 'read';
    } catch (error) {
      return String((error as { code?: unknown }).code);
    } finally {
      await rm(location);
    }
  },
});

const F32 = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };
const tensor = (name: string, outcome: string, entry: object | string, dataBytes = 8) =>
  file(name, outcome, safetensorsOf(typeof entry === 'string' ? `{"a": ${entry}}` : { a: entry }, dataBytes));

export const weightFiles: HostileTable = {
  kind: 'safetensors files',
  cases: [
    file('empty', 'file_truncated', new Uint8Array()),
    file('seven bytes', 'file_truncated', new Uint8Array(7)),
    file('a header of 2^64 - 1 bytes', 'header_too_large', safetensorsOf('{}', 0, 2n ** 64n - 1n)),
    file('a header of 100,000,001 bytes', 'header_too_large', safetensorsOf('{}', 0, 100_000_001n)),
    file('a header past the end', 'file_truncated', safetensorsOf('{}', 0, 50n)),
    file('an empty header', 'header_invalid', safetensorsOf('')),
    file('a header that is a list', 'header_invalid', safetensorsOf('[]')),
    file('a header that begins with a space', 'header_invalid', safetensorsOf(' {}')),
    file('a header with a byte order mark', 'header_invalid', safetensorsOf('\ufeff{}')),
    file('a header with invalid UTF-8', 'header_invalid', safetensorsOf(Buffer.from('7b22ff223a317d', 'hex'))),
    file('100,000 levels', 'header_invalid', safetensorsOf('{"a":'.repeat(100_000))),
    file('a tensor that is a number', 'entry_invalid', safetensorsOf({ a: 7 })),
    file('metadata that is not a string', 'entry_invalid', safetensorsOf({ __metadata__: { a: 1 } })),
    file(
      'a duplicate name',
      'duplicate_key',
      safetensorsOf(`{"a": ${JSON.stringify(F32)}, "a": ${JSON.stringify(F32)}}`, 8),
    ),
    file(
      'a duplicate name, once with an escape',
      'duplicate_key',
      safetensorsOf(`{"a": ${JSON.stringify(F32)}, "\\u0061": ${JSON.stringify(F32)}}`, 8),
    ),
    file('a tensor named __proto__', 'read', safetensorsOf(`{"__proto__": ${JSON.stringify(F32)}}`, 8)),
    file('overlapping tensors', 'range_invalid', safetensorsOf({ a: F32, b: F32 }, 8)),
    file('a gap between tensors', 'range_invalid', safetensorsOf({ a: { ...F32, data_offsets: [8, 16] } }, 16)),
    file('bytes that belong to no tensor', 'range_invalid', safetensorsOf({ a: F32 }, 16)),
    tensor('an unknown dtype', 'entry_invalid', { ...F32, dtype: 'F128' }),
    tensor('a dtype named like a JavaScript property', 'entry_invalid', { ...F32, dtype: 'constructor' }),
    tensor('a dtype that is an object', 'entry_invalid', { ...F32, dtype: { toString: 1 } }),
    tensor(
      'a type of 20,000 nested lists',
      'entry_invalid',
      `{"dtype": ${'['.repeat(20_000)}${']'.repeat(20_000)}, "shape": [2], "data_offsets": [0, 8]}`,
    ),
    file('a name of 1,001 characters', 'entry_invalid', safetensorsOf({ ['x'.repeat(1_001)]: F32 }, 8)),
    file('a name of 1,000 characters', 'read', safetensorsOf({ ['x'.repeat(1_000)]: F32 }, 8)),
    tensor('an unknown key', 'entry_invalid', { ...F32, stride: 1 }),
    tensor('a negative size', 'entry_invalid', { ...F32, shape: [-2] }),
    tensor('a fractional size', 'entry_invalid', { ...F32, shape: [1.5] }),
    tensor(
      'a size that is not a safe integer',
      'entry_invalid',
      '{"dtype": "F32", "shape": [9007199254740993], "data_offsets": [0, 8]}',
    ),
    tensor('sizes whose product overflows', 'size_mismatch', { ...F32, shape: [2 ** 32, 2 ** 32] }),
    tensor('sizes whose product overflows to 8', 'size_mismatch', { ...F32, shape: [2 ** 31, 2 ** 31, 4, 2] }),
    tensor('65 dimensions', 'entry_invalid', { ...F32, shape: Array(65).fill(1) }),
    tensor('a negative offset', 'entry_invalid', { ...F32, data_offsets: [-8, 0] }),
    tensor('decreasing offsets', 'size_mismatch', { ...F32, data_offsets: [8, 0] }),
    tensor('an offset past the end', 'file_truncated', { dtype: 'F32', shape: [4], data_offsets: [0, 16] }),
    tensor('three offsets', 'entry_invalid', { ...F32, data_offsets: [0, 8, 16] }),
    tensor(
      'an offset that overflows to infinity',
      'entry_invalid',
      '{"dtype": "F32", "shape": [2], "data_offsets": [0, 1e999]}',
    ),
  ],
};
