import { expect, test } from 'vitest';
import { createLogger, withoutSecrets } from './logger.js';

const KEY = `lsk_${'0123456789abcdef'.repeat(2).slice(0, 24)}_${'Aa0_-'.repeat(9).slice(0, 43)}`;

test.each([
  [`GET /jobs?api_key=${KEY}&a=1`, 'GET /jobs?api_key=lsk_…&a=1'],
  [`"${KEY}"`, '"lsk_…"'],
  ['connect redis://:pass-word@10.0.0.1:6379 failed', 'connect redis://…@10.0.0.1:6379 failed'],
  ['https://user:pass@host/path', 'https://…@host/path'],
  ['redis://127.0.0.1:6379 and me@example.com', 'redis://127.0.0.1:6379 and me@example.com'],
  ['key_0123456789abcdef01234567', 'key_0123456789abcdef01234567'],
])('%s', (text, expected) => {
  expect(withoutSecrets(text)).toBe(expected);
});

test('secrets are removed from every part of a log line', () => {
  const lines: string[] = [];
  const logger = createLogger({ service: 'a', level: 'info', destination: { write: (line) => void lines.push(line) } });
  logger.info({ url: `/jobs/${KEY}`, err: new Error(`no ${KEY}`), nested: { list: [KEY] } }, KEY);
  logger.child({ key: KEY }).error(new Error('redis://:pw@h'));
  expect(lines).toHaveLength(2);
  expect(lines.join('')).not.toMatch(/Aa0_-|pw@/);
  for (const line of lines) expect(() => JSON.parse(line)).not.toThrow();
});
