import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createLogger } from '../../packages/service-kit/src/logger.js';
import { consoleReport } from '../../scripts/stack/console-report.mjs';

test('warnings and errors of a service are shown on the terminal, lower levels only in its log', () => {
  const shown: string[] = [];
  const report = consoleReport(
    new Writable({
      write(chunk, _encoding, done) {
        shown.push(String(chunk));
        done();
      },
    }),
  );
  const lines: string[] = [];
  const logger = createLogger({
    service: 'api',
    level: 'debug',
    destination: { write: (line: string) => lines.push(line) },
  });
  logger.info('started');
  logger.warn('slow');
  logger.error({ err: new Error('no such host') }, 'the registry is unavailable');
  report({ part: 'api', state: 'ready' });
  for (const line of lines) report({ part: 'api', line });
  report({ part: 'worker', line: 'not JSON' });
  expect(shown).toEqual([
    'api      ready\n',
    'api      warning: slow\n',
    'api      error: the registry is unavailable: no such host\n',
    'worker   not JSON\n',
  ]);
});
