import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JobSpec, type TextualRow, type UploadedDataset } from '@lorasmith/contracts';
import { loadChatTemplate, loadTokenizer, type ModelFolder } from '@lorasmith/model-folder';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { jsonLines, storeDataset } from '../test/stored-dataset.js';
import { CHATML, tinyDecoder } from '../test/tiny-model.js';
import { type ExampleStore, openExampleStore } from './example-file/example-store.js';
import { RowEncoder } from './objectives/next-token/encode-row.js';
import type { TokenExamples } from './objectives/next-token/token-examples.js';
import { planJob } from './plan-job.js';
import { prepareTokens, storedTokens } from './prepare-examples.js';

let folder: string;
let examples: ExampleStore;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'prepare-examples-'));
  examples = await openExampleStore({ dataDir: folder, maxBytes: 2 ** 30 });
});
afterEach(() => rm(folder, { recursive: true }));

const completionFormat = 'chat';
const ROWS = Array.from({ length: 60 }, (_, row) => ({
  prompt: `What comes after ${row}, and why? é漢🙂`,
  completion: `${row + 1}${', and so on'.repeat(3 * (row % 9))}.`,
}));

interface Stored {
  dataset: UploadedDataset;
  rowsFile: string;
}

async function stored(rows: readonly object[], changes: Partial<UploadedDataset> = {}): Promise<Stored> {
  const rowsFile = join(folder, 'data.jsonl');
  return { dataset: await storeDataset(rowsFile, 'prompt_completion', jsonLines(rows), changes), rowsFile };
}

interface Settings {
  training?: Partial<JobSpec['training']>;
  split?: number;
}

async function plan(model: ModelFolder, { dataset, rowsFile }: Stored, { training = {}, split = 0 }: Settings = {}) {
  const request = { base_model: 'tiny', dataset: dataset.id, validation: { split }, lora: {}, training };
  const spec = Value.Default(JobSpec, request) as JobSpec;
  const planned = await planJob({ spec, model, dataset, rowsFile, examples });
  onTestFinished(() => planned.close());
  return planned;
}

function sequencesOf(side: unknown) {
  const all = side as TokenExamples;
  return Array.from({ length: all.count }, (_, number) => all.sequence(number));
}

/** The rows as the encoder makes them tokens, cut into pieces of a length. */
async function inMemory(model: ModelFolder, rows: readonly TextualRow[], maxLength: number) {
  const tokenizer = await loadTokenizer(model.path);
  const template = await loadChatTemplate(model.path);
  const encoder = new RowEncoder({ tokenizer, template, endTokenIds: [tokenizer.eosTokenId!] });
  return rows.flatMap((row) => {
    const { ids, trained } = encoder.encode(row);
    return Array.from({ length: Math.ceil(ids.length / maxLength) }, (_, piece) => {
      const [start, end] = [piece * maxLength, (piece + 1) * maxLength];
      return { ids: ids.slice(start, end), trained: trained.slice(start, end).fill(0, 0, 1) };
    }).filter((piece) => piece.trained.includes(1));
  });
}

test('examples are those of the rows, one after the other', async () => {
  const model = await tinyDecoder('qwen2', CHATML);
  const settings = { training: { max_seq_length: 40, on_overflow: 'split' as const } };
  const { training, report } = await plan(model, await stored(ROWS), settings);
  const expected = await inMemory(model, ROWS, 40);
  expect(report.rows.split).toBeGreaterThan(10);
  expect(expected.length).toBeGreaterThan(ROWS.length);
  expect(sequencesOf(training)).toEqual(expected);
});

test('prompts and completions are turns or plain text, as the job says, and the report shows the first', async () => {
  const model = await tinyDecoder('qwen2', CHATML);
  const data = await stored([{ prompt: 'Hi', completion: ' you' }]);
  const chat = await plan(model, data);
  const [header, answer] = ['<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n', ' you<|im_end|>\n'];
  const row = [
    { text: header, trained: false },
    { text: answer, trained: true },
  ];
  expect(chat.report.rendered).toEqual({ completion_format: 'chat', first_row: row });
  const text = await plan(model, data, { training: { completion_format: 'text' } });
  const asTheyAre = [
    { text: 'Hi', trained: false },
    { text: ' you<|im_end|>', trained: true },
  ];
  expect(text.report.rendered).toEqual({ completion_format: 'text', first_row: asTheyAre });
  expect(text.examplesSha256).not.toBe(chat.examplesSha256);
  expect(text.report.tokens.per_epoch).toBeLessThan(chat.report.tokens.per_epoch);
  // Both are stored.
  await rm(data.rowsFile);
  expect((await plan(model, data)).report).toEqual(chat.report);
  // Without a template it is text in either case.
  const withoutTemplate = await plan(
    await tinyDecoder('qwen2', null),
    await stored([{ prompt: 'Hi', completion: ' you' }]),
  );
  expect(withoutTemplate.report.rendered).toEqual({ completion_format: 'text', first_row: asTheyAre });
});

describe('rows are made tokens once', () => {
  test('rows that are tokens are not read again, whatever splits or orders them', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const data = await stored(ROWS);
    const first = await plan(model, data);
    await rm(data.rowsFile);
    const again = await plan(model, data);
    expect(again.report).toEqual(first.report);
    expect(sequencesOf(again.training)).toEqual(sequencesOf(first.training));
    const split = await plan(model, data, { split: 0.25, training: { seed: 7, batch_size: 2, epochs: 5 } });
    expect([split.training.count, split.validation!.count]).toEqual([45, 15]);
    const lines = [split.training, split.validation!].flatMap((side) =>
      Array.from({ length: side.count }, (_, number) => side.lineOf(number)),
    );
    expect(lines.sort((a, b) => a - b)).toEqual(ROWS.map((_, row) => row + 1));
  });

  test('whatever cuts them, with what the report says of that', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const data = await stored(ROWS);
    const fresh = async (training: Partial<JobSpec['training']>) => {
      const { report, training: side, examplesSha256 } = await plan(model, data, { training });
      return { rows: report.rows, warnings: report.warnings, sequences: sequencesOf(side), examplesSha256 };
    };
    const all: Partial<JobSpec['training']>[] = [
      { max_seq_length: 40, on_overflow: 'split' },
      { max_seq_length: 90, on_overflow: 'truncate' },
      { max_seq_length: 100, on_overflow: 'drop' },
      { max_seq_length: 4000 },
    ];
    const made = [];
    for (const training of all) {
      made.push(await fresh(training));
      await examples.removeDataset(data.dataset.id);
    }
    expect(made[0]!.rows).toMatchObject({ overflowed: made[0]!.rows.split, longest: made[3]!.rows.longest });
    expect(new Set(made.map(({ examplesSha256 }) => examplesSha256)).size).toBe(4);
    await prepareTokens({ model, ...data, completionFormat, examples });
    await rm(data.rowsFile);
    for (const [index, training] of all.entries()) expect(await fresh(training)).toEqual(made[index]);
    const error = await fresh({ max_seq_length: 40, on_overflow: 'error' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'row_too_long', details: { length: made[0]!.rows.overflowed } });
    expect(await readdir(join(folder, 'tokens'))).toHaveLength(1);
    expect(await readdir(join(folder, '.staging'))).toEqual([]);
  });

  test('rows are made tokens before any job, and whether they are is known without reading them', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const data = await stored(ROWS);
    expect(await storedTokens({ model, ...data, completionFormat, examples })).toBeNull();
    const seen: object[] = [];
    await prepareTokens({ model, ...data, completionFormat, examples, onProgress: (progress) => seen.push(progress) });
    expect(seen).toEqual([0, 60].map((rows) => ({ rows, totalRows: 60 })));
    expect((await storedTokens({ model, ...data, completionFormat, examples }))!.bytes).toBeGreaterThan(60 * 24);
    await prepareTokens({ model, ...data, completionFormat, examples, onProgress: (progress) => seen.push(progress) });
    expect(seen).toHaveLength(2);
  });

  test.each([
    ['another time of upload', { created_at: '2026-01-02T00:00:00Z' }],
    ['another file', { sha256: 'f'.repeat(64) }],
    ['another dataset', { id: `ds_${'1'.repeat(24)}` }],
  ] as const)('rows are made tokens again for %s', async (_, changes) => {
    const model = await tinyDecoder('qwen2', CHATML);
    const data = await stored(ROWS);
    await plan(model, data);
    await rm(data.rowsFile);
    const other = plan(model, { ...data, dataset: { ...data.dataset, ...changes } });
    await expect(other).rejects.toMatchObject({ code: 'dataset_not_found' });
  });

  test('rows are made tokens again for another tokenizer, template, vocabulary or end token', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const data = await stored(ROWS);
    await plan(model, data);
    await rm(data.rowsFile);
    const { architecture } = model;
    if (architecture.kind !== 'decoder') throw new Error('no decoder');
    const others = [
      { ...model, path: (await tinyDecoder('smollm', CHATML)).path },
      { ...model, path: (await tinyDecoder('qwen2', `${CHATML} `)).path },
      { ...model, architecture: { ...architecture, vocabSize: 2048 } },
      { ...model, architecture: { ...architecture, eosTokenIds: [5] } },
    ];
    for (const other of others) await expect(plan(other, data)).rejects.toMatchObject({ code: 'dataset_not_found' });
  });

  test('nothing is stored of rows with faults', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const rows = [...ROWS, { prompt: 'a', completion: 'b', more: 1 }];
    const data = await stored(rows);
    await expect(plan(model, data)).rejects.toMatchObject({ code: 'unknown_field' });
    await expect(prepareTokens({ model, ...data, completionFormat, examples })).rejects.toMatchObject({
      code: 'unknown_field',
    });
    expect(await readdir(join(folder, 'tokens'))).toEqual([]);
    expect(await readdir(join(folder, '.staging'))).toEqual([]);
  });
});

test('a stored file that changed is detected by its sha256', async () => {
  const model = await tinyDecoder('qwen2', CHATML);
  const data = await stored(ROWS);
  const content = await readFile(data.rowsFile, 'utf8');
  await writeFile(data.rowsFile, content.replace('after 7', 'after 8'));
  const error = await plan(model, data).catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    code: 'invalid_dataset',
    param: 'dataset',
    message: expect.stringContaining('sha256'),
  });
});

test('a template that asks for the date gets that of the upload', async () => {
  const model = await tinyDecoder('qwen2', `{{ strftime_now('%d %b %Y') }}\n${CHATML}`);
  const data = await stored(ROWS, { created_at: '2025-03-04T12:00:00Z' });
  const tokenizer = await loadTokenizer(model.path);
  const [first] = sequencesOf((await plan(model, data)).training);
  expect(tokenizer.decode(first!.ids)).toMatch(/^04 Mar 2025\n/);
});

// Examples are kept from one release to the next under a number for how they are made: CONVERSION in
// prepare-examples.ts. When this fails because rows are to become other tokens, raise it together with this digest.
test('rows become the tokens that examples of this conversion have', async () => {
  const model = await tinyDecoder('qwen2', CHATML);
  await plan(model, await stored(ROWS));
  const [name] = await readdir(join(folder, 'tokens'));
  const words = await readFile(join(folder, 'tokens', name!, 'words.bin'));
  expect([words.length, createHash('sha256').update(words).digest('hex')]).toMatchInlineSnapshot(`
    [
      22292,
      "fcca997f85805af7a682f68107e8c5190b9fdde680b0bd4f477fb4d14a53e891",
    ]
  `);
});
