import { tmpdir } from 'node:os';
import { expect, test, vi } from 'vitest';
import { writeWithinSpace } from './index.js';

const folder = tmpdir();
const noSpace = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });

test('nothing is written where it cannot fit', async () => {
  const write = vi.fn(async () => {});
  await expect(writeWithinSpace(folder, 2 ** 60, write)).rejects.toMatchObject({
    code: 'storage_full',
    message: expect.stringContaining(`${2 ** 60} bytes are needed`),
  });
  expect(write).not.toHaveBeenCalled();
});

test('a write that fails because another one has filled the disk meanwhile is tried again', async () => {
  const write = vi.fn(async () => {});
  write.mockRejectedValueOnce(noSpace).mockRejectedValueOnce(noSpace);
  await writeWithinSpace(folder, 1, write);
  expect(write).toHaveBeenCalledTimes(3);
});

test('a write that fails each time ends with storage_full, one that fails otherwise with its own error at once', async () => {
  await expect(writeWithinSpace(folder, 1, vi.fn().mockRejectedValue(noSpace))).rejects.toMatchObject({
    code: 'storage_full',
    cause: noSpace,
  });
  const other = new Error('EACCES');
  await expect(writeWithinSpace(folder, 1, vi.fn().mockRejectedValue(other))).rejects.toBe(other);
});
