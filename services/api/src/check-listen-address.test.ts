import { expect, test } from 'vitest';
import { checkListenAddress } from './check-listen-address.js';

test.each(['127.0.0.1', '127.9.9.9', 'localhost', '::1'])('%s needs nobody to be trusted', (host) => {
  expect(() => checkListenAddress({ host, trustNetwork: false })).not.toThrow();
});

test.each(['0.0.0.0', '::', '192.168.0.9', 'localhost.example', '127.0.0.1.example'])(
  '%s is refused unless the network is said to be trusted',
  (host) => {
    expect(() => checkListenAddress({ host, trustNetwork: false })).toThrowError(
      expect.objectContaining({ code: 'invalid_configuration', param: 'API_HOST' }),
    );
    expect(() => checkListenAddress({ host, trustNetwork: true })).not.toThrow();
  },
);
