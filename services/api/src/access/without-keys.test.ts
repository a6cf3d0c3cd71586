import { expect, test } from 'vitest';
import { isLoopback, withoutKeysAt } from './without-keys.js';

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
