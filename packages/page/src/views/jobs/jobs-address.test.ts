import { JOB_SETTING_PATHS } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { COLUMN_SORTS, jobsAddressOf, toggled, variantsQuery } from './jobs-address.js';

const sweep = `sw_${'1'.repeat(24)}`;
const of = (text: string) => jobsAddressOf(new URLSearchParams(text));

test('the address says what the service is asked for', () => {
  expect(of('').query).toEqual({ limit: 25, collapse: 'sweep' });
  expect(of('q= a &tag=b&status=failed&model=tiny&sort=-Took&after=job_1').query).toEqual({
    limit: 25,
    q: 'a',
    tag: 'b',
    status: 'failed',
    base_model: 'tiny',
    collapse: 'sweep',
    sort: 'duration',
    order: 'desc',
    after: 'job_1',
  });
  expect(of(`sweep=${sweep}&flat=yes`).query).toEqual({ limit: 25, sweep });
  expect(of('sort=Learning rate').query).toMatchObject({ sort: 'training.learning_rate', order: 'asc' });
});

test('what an address may not have is left out', () => {
  const { query, open, columns, sort } = of(
    'status=x&sort=Loss&sweep=1&model=../x&open=a,sw_1&columns=spec,lora.r,lora.r',
  );
  expect(query).toEqual({ limit: 25, collapse: 'sweep' });
  expect({ open, columns, sort }).toEqual({ open: [], columns: ['lora.r'], sort: null });
});

test('every setting is a column of its own', () => {
  const paths = new Set(Object.values(COLUMN_SORTS));
  for (const path of JOB_SETTING_PATHS) expect(paths).toContain(path);
});

test('the variants of a sweep are asked for by the same filters, all of them', () => {
  const { query } = of('q=a&sort=State&after=job_1');
  expect(variantsQuery(query, sweep)).toEqual({ q: 'a', sort: 'status', order: 'asc', sweep, limit: 100 });
});

test('a value is added to a list or removed', () => {
  expect([toggled([], 'a'), toggled(['a'], 'b'), toggled(['a'], 'a')]).toEqual(['a', 'a,b', undefined]);
});
