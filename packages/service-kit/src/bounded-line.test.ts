import { expect, test } from 'vitest';
import { createLogger } from './logger.js';

function linesOf(log: (logger: ReturnType<typeof createLogger>) => void): string[] {
  const lines: string[] = [];
  log(createLogger({ service: 'a', level: 'info', destination: { write: (line) => void lines.push(line) } }));
  return lines;
}

test('a field that a sender chooses is cut, and says its length', () => {
  const [line = ''] = linesOf((logger) => logger.info({ url: `/${'x'.repeat(20_000)}`, status: 401 }, 'refused'));
  expect(line.length).toBeLessThan(1_500);
  expect(JSON.parse(line)).toMatchObject({
    url: expect.stringMatching(/^\/x{999}… \(20001 characters\)$/),
    status: 401,
    msg: 'refused',
    service: 'a',
  });
  expect(line.endsWith('\n')).toBe(true);
});

test('long lists, deep values and many fields are cut', () => {
  const list = Array.from({ length: 10_000 }, (_, i) => i);
  const deep = JSON.parse(`${'{"a":'.repeat(500)}1${'}'.repeat(500)}`);
  const [first = '', second = '', third = ''] = linesOf((logger) => {
    logger.info({ list }, 'a list');
    logger.info({ deep, more: 'x'.repeat(1_000) }, 'deep');
    logger.info(Object.fromEntries(list.map((i) => [`field${i}`, 'x'.repeat(100)])), 'many');
  });
  expect(JSON.parse(first).list).toHaveLength(21);
  expect(second.length).toBeLessThan(2_000);
  expect(JSON.parse(third)).toMatchObject({ msg: 'many', level: 'info', cut: true });
});

test('a stack trace is kept whole, and a secret at the cut is removed', () => {
  const error = new Error('a fault');
  error.stack = `Error: a fault\n${'    at a place (a-file.ts:1:2)\n'.repeat(100)}`;
  const key = `lsk_${'a'.repeat(24)}_${'b'.repeat(43)}`;
  const [first = '', second = ''] = linesOf((logger) => {
    logger.error({ err: error }, 'failed');
    logger.info({ url: `${'x'.repeat(980)}${key}` }, 'refused');
  });
  expect(JSON.parse(first).err.stack).toBe(error.stack);
  expect(second).not.toContain('aaaa');
});
