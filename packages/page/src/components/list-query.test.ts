import { expect, test } from 'vitest';
import { listSortOf, nextSort, sortedRows, sortOf } from './list-query.js';

const rows = [
  { name: 'b10', took: 3 },
  { name: 'a', took: null },
  { name: 'b9', took: 3 },
  { name: 'c', took: 1 },
];
const columns = [
  { title: 'Job', sortBy: ({ name }: (typeof rows)[number]) => name },
  { title: 'Took', sortBy: ({ took }: (typeof rows)[number]) => took },
  { title: 'State' },
];
const names = (text: string | null) => sortedRows(rows, columns, sortOf(text)).map(({ name }) => name);

test.each([
  [null, ['b10', 'a', 'b9', 'c']],
  ['', ['b10', 'a', 'b9', 'c']],
  ['Job', ['a', 'b9', 'b10', 'c']],
  ['-Job', ['c', 'b10', 'b9', 'a']],
  ['Took', ['c', 'b10', 'b9', 'a']],
  ['-Took', ['b10', 'b9', 'c', 'a']],
  ['State', ['b10', 'a', 'b9', 'c']],
  ['-nothing', ['b10', 'a', 'b9', 'c']],
])('%j sorts rows: numbers by size, text with its numbers, what is missing last', (text, expected) => {
  expect(names(text)).toEqual(expected);
});

test.each([
  ['sort=-Size', { sort: { title: 'Size', isDescending: true }, parameters: { sort: 'bytes', order: 'desc' } }],
  ['sort=Size', { sort: { title: 'Size', isDescending: false }, parameters: { sort: 'bytes', order: 'asc' } }],
  ['sort=Other', { sort: null, parameters: {} }],
  ['sort=constructor', { sort: null, parameters: {} }],
  ['', { sort: null, parameters: {} }],
])('the address %j sorts a list of the service', (address, expected) => {
  expect(listSortOf(new URLSearchParams(address), { Size: 'bytes' })).toEqual(expected);
});

test('a title is ascending, then descending, then not sorted by', () => {
  expect(nextSort(null, 'Took')).toBe('Took');
  expect(nextSort(sortOf('Took'), 'Took')).toBe('-Took');
  expect(nextSort(sortOf('-Took'), 'Took')).toBeUndefined();
  expect(nextSort(sortOf('-Took'), 'Job')).toBe('Job');
});
