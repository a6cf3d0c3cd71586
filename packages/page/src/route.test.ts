import { expect, test } from 'vitest';
import { hashOf, matchPath, pathOf, routeOfHash } from './route.js';

test('a route survives the address', () => {
  const hash = hashOf(pathOf('/models/:name', { name: 'a/b?c#d e' }), {
    compare: 'job_1,job_2',
    empty: '',
    none: undefined,
  });
  const route = routeOfHash(hash);
  expect(route?.path).toBe('/models/a%2Fb%3Fc%23d%20e');
  expect(Object.fromEntries(route?.query ?? [])).toEqual({ compare: 'job_1,job_2' });
  expect(matchPath('/models/:name', route?.path ?? '')).toEqual({ name: 'a/b?c#d e' });
});

test('no fragment is the first view, and a fragment of another kind is no route', () => {
  expect(routeOfHash('')?.path).toBe('/');
  expect(routeOfHash('#')?.path).toBe('/');
  expect(routeOfHash('#main')).toBeNull();
});

test.each([
  ['/jobs', '/jobs', {}],
  ['/jobs', '/jobs/', null],
  ['/jobs/:id', '/jobs', null],
  ['/jobs/:id', '/jobs/', null],
  ['/jobs/:id', '/jobs/job_1', { id: 'job_1' }],
  ['/jobs/:id', '/jobs/job_1/more', null],
  ['/jobs/:id', '/jobs/%E0%A4%A', null],
  ['/jobs/:id', '/adapters/job_1', null],
])('%s on %s', (pattern, path, params) => {
  expect(matchPath(pattern, path)).toEqual(params);
});
