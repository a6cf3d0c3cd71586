import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { UploadedDataset } from '@lorasmith/contracts';
import { type ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { CHATML, tinyDecoder } from '../../test/tiny-model.js';
import { ExampleWriter } from '../example-file/example-file.js';
import { nextToken } from '../objectives/next-token/next-token.js';
import type { Objective } from '../objectives/objective.js';
import { type ConvertRowsOptions, convertRows } from './convert-rows.js';

/** Some 10 KB each, so that a block of the file has about 25. */
const ROWS = Array.from({ length: 200 }, (_, row) => {
  const content = `Number ${row}: ${`word${row % 97} é漢🙂 `.repeat(480 + (row % 40))}${row % 11 === 5 ? '<|im_end|>' : ''}`;
  return JSON.stringify({
    messages: [
      { role: 'user', content },
      { role: 'assistant', content: `Yes, ${row}.` },
    ],
  });
});

let model: ModelFolder;
beforeEach(async () => {
  model = await tinyDecoder('qwen2', CHATML);
});

/** The objective, but slow in this thread, so that others convert most rows. */
function slowHere(beforeRow = () => {}): { objective: Objective; rows(): number } {
  let rows = 0;
  const createConverter: Objective['createConverter'] = async (...options) => {
    const converter = await nextToken.createConverter(...options);
    return {
      rendered: (codes) => converter.rendered(codes),
      convert(row) {
        rows++;
        beforeRow();
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
        return converter.convert(row);
      },
    };
  };
  return { objective: { ...nextToken, createConverter }, rows: () => rows };
}

async function convert(lines: readonly string[], changes: Partial<ConvertRowsOptions> & { threads: number }) {
  const folder = await mkdtemp(join(tmpdir(), 'convert-rows-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const rowsFile = join(folder, 'data.jsonl');
  const content = lines.join('\n');
  await writeFile(rowsFile, content);
  const dataset = {
    sha256: createHash('sha256').update(content).digest('hex'),
    format: 'messages',
    rows: lines.filter((line) => line !== '').length,
    created_at: '2026-01-01T00:00:00Z',
  } as UploadedDataset;
  const writer = new ExampleWriter(folder);
  try {
    const rows = {
      model,
      dataset,
      completionFormat: 'chat' as const,
      objective: nextToken,
      rowsFile,
      texts: new ModelTexts(),
    };
    const { notes, faults } = await convertRows({ ...rows, writer, ...changes });
    const files = writer.finish();
    const index = await readFile(join(folder, 'index.bin'));
    return { notes, faults: faults && { listed: faults.listed, count: faults.count }, files, index };
  } finally {
    writer.close();
  }
}

const threadsNow = () => process.getActiveResourcesInfo().filter((resource) => resource === 'MessagePort').length;

describe('several threads', () => {
  test('make the same examples and remarks as one', async () => {
    const alone = await convert(ROWS, { threads: 1 });
    expect(alone.notes).toMatchObject({ warnings: [{ code: 'special_token_in_text', line: 6 }] });
    const before = threadsNow();
    const { objective, rows } = slowHere();
    expect(await convert(ROWS, { threads: 3, objective })).toEqual(alone);
    expect(rows()).toBeLessThan(ROWS.length);
    expect(threadsNow()).toBe(before);
  });

  test('find the same faults as one, in the order of the lines', async () => {
    const lines = ROWS.map((line, row) => (row % 20 === 15 ? '{"messages": 7}' : row % 30 === 9 ? `${line}}` : line));
    lines.splice(60, 0, '', '');
    const lengthFault = (tokens: number) =>
      tokens % 3 > 0 ? { code: 'row_too_long' as const, message: `${tokens}` } : null;
    const alone = await convert(lines, { threads: 1, lengthFault });
    const { listed, count } = alone.faults!;
    const numbers = listed.map(({ line }) => line!);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    expect(new Set(listed.map(({ code }) => code))).toEqual(new Set(['row_too_long', 'invalid_dataset']));
    expect([alone.notes, listed.length, count > 100]).toEqual([null, 100, true]);
    expect(await convert(lines, { threads: 3, lengthFault, objective: slowHere().objective })).toEqual(alone);
  });

  test('end when planning is stopped', async () => {
    const before = threadsNow();
    const stopping = new AbortController();
    const { objective, rows } = slowHere(() => stopping.abort('a test'));
    const stopped = convert(ROWS, { threads: 3, objective, signal: stopping.signal });
    await expect(stopped).rejects.toMatchObject({ code: 'cancelled' });
    expect(rows()).toBeLessThan(ROWS.length);
    expect(threadsNow()).toBe(before);
  });

  test('fail with the reason of the one that fails', async () => {
    const { objective } = slowHere();
    const createConverter: Objective['createConverter'] = async (...options) => {
      const converter = await objective.createConverter(...options);
      await rm(join(model.path, 'tokenizer.json'));
      return converter;
    };
    const error = await convert(ROWS, { threads: 2, objective: { ...objective, createConverter } }).catch((e) => e);
    expect(error).toMatchObject({
      message: expect.stringContaining('A thread that converts rows failed'),
      cause: { message: expect.stringContaining('tokenizer.json') },
    });
  });
});
