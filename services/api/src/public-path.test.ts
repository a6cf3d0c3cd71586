import { expect, test } from 'vitest';
import { withoutPublicPath } from './public-path.js';

test.each([
  ['/lora/jobs?limit=1', '/jobs?limit=1'],
  ['/lora/', '/'],
  ['/lora', '/'],
  ['/lora?x=1', '/?x=1'],
  // A proxy that has removed it.
  ['/jobs', '/jobs'],
  ['/loras', '/loras'],
  ['/v1/lora/jobs', '/v1/lora/jobs'],
  ['/lora/lora/jobs', '/lora/jobs'],
])('%s is %s of the service', (url, expected) => {
  expect(withoutPublicPath(url, '/lora')).toBe(expected);
  expect(withoutPublicPath(url, '')).toBe(url);
});
