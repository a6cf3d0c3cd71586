import { isLoopback } from '@lorasmith/service-kit';
import { expect, test } from 'vitest';
import { checkKeylessRequest, withoutKeysAt } from './authenticate.js';

test.each(['127.0.0.1', '127.9.9.9', 'localhost', '::1', '[::1]'])('%s is only this machine', (host) => {
  expect(isLoopback(host)).toBe(true);
  expect(withoutKeysAt({ host, publishedHost: '', trustNetwork: false })).toBe('loopback');
});

test.each(['0.0.0.0', '::', '[::]', '192.168.0.9', 'localhost.example', '127.0.0.1.example', 'xlocalhost'])(
  '%s is not',
  (host) => {
    expect(isLoopback(host)).toBe(false);
    expect(withoutKeysAt({ host, publishedHost: '', trustNetwork: false })).toBe('refuse');
    expect(withoutKeysAt({ host, publishedHost: '127.0.0.1', trustNetwork: false })).toBe('loopback');
    expect(withoutKeysAt({ host: '127.0.0.1', publishedHost: host, trustNetwork: false })).toBe('refuse');
    expect(withoutKeysAt({ host, publishedHost: '', trustNetwork: true })).toBe('everything');
  },
);

test.each([
  {},
  { origin: 'http://127.0.0.1:8080' },
  { origin: 'http://127.0.0.1:8080', 'sec-fetch-site': 'same-origin' },
  { 'sec-fetch-site': 'none' },
])('a request with %j is answered without keys', (headers) => {
  checkKeylessRequest({ host: '127.0.0.1:8080', ...headers });
});

test.each([
  { host: 'lorasmith.example' },
  { host: 'lorasmith.example:8080' },
  // A page of another port of this machine: the browser calls it the same site.
  { origin: 'http://127.0.0.1:3000' },
  { origin: 'http://localhost:8080' },
  { origin: 'http://127.0.0.1' },
  { origin: 'null' },
  { 'sec-fetch-site': 'same-site' },
  { 'sec-fetch-site': 'cross-site' },
  { 'x-forwarded-for': '192.0.2.7' },
  { 'x-forwarded-proto': 'https' },
  { forwarded: 'for=192.0.2.7' },
  { via: '1.1 proxy' },
  { 'x-real-ip': '192.0.2.7' },
])('a request with %j is refused without keys', (headers) => {
  expect(() => checkKeylessRequest({ host: '127.0.0.1:8080', ...headers })).toThrowError(
    expect.objectContaining({ code: 'forbidden' }),
  );
});
