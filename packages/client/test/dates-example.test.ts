import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type MessagesRow, textOfMessage } from '@lorasmith/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const EXAMPLE = join(import.meta.dirname, '../../../examples/dates');
const generate = (...args: string[]) => promisify(execFile)(process.execPath, [join(EXAMPLE, 'generate.mjs'), ...args]);
const rowsOf = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as MessagesRow);

describe('examples/dates', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lorasmith-dates-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('equals the output of its generator, byte for byte', async () => {
    await generate('--out', folder);
    for (const name of ['train.jsonl', 'heldout.jsonl']) {
      expect(await readFile(join(folder, name), 'utf8')).toBe(await readFile(join(EXAMPLE, name), 'utf8'));
    }
  });

  it('holds out dates that no training row contains', async () => {
    const [train, heldout] = await Promise.all(
      ['train.jsonl', 'heldout.jsonl'].map(async (name) => rowsOf(await readFile(join(EXAMPLE, name), 'utf8'))),
    );
    const datesOf = (rows: MessagesRow[] = []) => rows.map(({ messages }) => messages.at(-1)!.content);
    const trained = new Set(datesOf(train));
    expect(trained.size).toBe(600);
    expect(datesOf(heldout)).toHaveLength(48);
    expect(datesOf(heldout).filter((date) => trained.has(date))).toEqual([]);
  });

  it('has the correct date for each text', async () => {
    const rows = rowsOf(await readFile(join(EXAMPLE, 'train.jsonl'), 'utf8'));
    // JavaScript can parse the styles with numbers for day and year, which gives an independent check.
    const readable = rows.filter(({ messages }) =>
      /^([A-Z][a-z]+ \d+, \d{4}|\d+ [A-Z][a-z]+,? \d{4})$/.test(textOfMessage(messages[1]!)),
    );
    expect(readable.length).toBeGreaterThan(100);
    for (const { messages } of readable) {
      const read = new Date(`${messages[1]!.content} UTC`).toISOString().slice(0, 10);
      expect([messages[1]!.content, messages[2]!.content]).toEqual([messages[1]!.content, read]);
    }
  });

  it.each([
    [1900, 'nineteen hundred'],
    [1905, 'nineteen oh five'],
    [1912, 'nineteen twelve'],
    [1987, 'nineteen eighty-seven'],
    [2000, 'two thousand'],
    [2009, 'two thousand nine'],
    [2010, 'twenty ten'],
    [2049, 'twenty forty-nine'],
  ])('writes the year %i as %s', async (year, words) => {
    const { DATE_STYLES } = await import('../../../examples/dates/date-styles.mjs');
    const texts = DATE_STYLES.map((style) => style({ year, month: 3, day: 21, weekday: 6 }));
    expect(texts).toContain(`the twenty-first of March, ${words}`);
    expect(texts).toContain(`Saturday, March the twenty-first, ${words}`);
  });

  it.each([
    [1, '1st'],
    [2, '2nd'],
    [3, '3rd'],
    [4, '4th'],
    [11, '11th'],
    [12, '12th'],
    [13, '13th'],
    [21, '21st'],
    [30, '30th'],
    [31, '31st'],
  ])('writes the day %i as %s', async (day, ordinal) => {
    const { DATE_STYLES } = await import('../../../examples/dates/date-styles.mjs');
    const texts = DATE_STYLES.map((style) => style({ year: 1950, month: 1, day, weekday: 0 }));
    expect(texts).toContain(`Jan ${ordinal} 1950`);
  });
});
