import { expect, test } from 'vitest';
import { withHead } from './chunk-head.js';

async function* bytesOneByOne(text: string) {
  for (const byte of Buffer.from(text)) yield Buffer.of(byte);
}

test('the beginning is looked at a few times only, in however small parts it comes', async () => {
  const text = 'x'.repeat(1_000);
  let looks = 0;
  const isEnough = ({ length }: Buffer) => {
    looks++;
    return length >= 600;
  };
  const { head, chunks } = await withHead(bytesOneByOne(text), isEnough);
  expect(looks).toBeLessThan(20);
  expect(head.length).toBeGreaterThanOrEqual(600);
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  expect(Buffer.concat(parts).toString()).toBe(text);
});

test('a file that ends before is its own beginning', async () => {
  const { head } = await withHead(bytesOneByOne('abcdefghijk'), () => false);
  expect(head.toString()).toBe('abcdefghijk');
});
