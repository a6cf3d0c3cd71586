import { expect, test } from 'vitest';
import { examplePrompts, exampleRows } from './example-rows.js';

const rows = exampleRows()
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line).messages.map(({ content }: { content: string }) => content));

test('each row has another date, and its answer is right', () => {
  expect(new Set(rows.map(([, , answer]) => answer)).size).toBe(rows.length);
  expect(rows.length).toBeGreaterThan(200);
  for (const [, question, answer] of rows) {
    expect(new Date(`${answer}T00:00Z`).getTime(), question).toBe(new Date(`${question} UTC`).getTime());
  }
});

test('the prompts are the questions of rows, without their answers', () => {
  const prompts = examplePrompts()
    .split('\n')
    .map((line) => JSON.parse(line).map(({ content }: { content: string }) => content));
  expect(prompts).toEqual(rows.slice(0, prompts.length).map((texts) => texts.slice(0, 2)));
});
