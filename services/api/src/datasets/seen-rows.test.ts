import { expect, test } from 'vitest';
import { MAX_REMEMBERED_ROWS, SeenRows } from './seen-rows.js';

const bytes = (row: string | number) => Buffer.from(String(row));

test('recognizes repeated rows, and no others', () => {
  const rows = new SeenRows();
  for (let row = 0; row < 30_000; row++) expect(rows.seen(bytes(`row ${row}`))).toBe(false);
  for (let row = 0; row < 30_000; row += 7) expect(rows.seen(bytes(`row ${row}`))).toBe(true);
  expect(rows.seen(bytes('row -1'))).toBe(false);
});

test('stores rows up to its limit and ignores further ones', () => {
  const rows = new SeenRows();
  for (let row = 0; row < MAX_REMEMBERED_ROWS + 10; row++) rows.seen(bytes(row));
  expect(rows.seen(bytes(0))).toBe(true);
  expect(rows.seen(bytes(MAX_REMEMBERED_ROWS - 1))).toBe(true);
  expect(rows.seen(bytes(MAX_REMEMBERED_ROWS + 5))).toBe(false);
});
