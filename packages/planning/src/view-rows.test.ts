import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JobSpec, type RowTokens, type UploadedDataset } from '@lorasmith/contracts';
import { type ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { jsonLines, storeDataset } from '../test/stored-dataset.js';
import { CHATML, tinyClassifier, tinyDecoder } from '../test/tiny-model.js';
import { openExampleStore } from './example-file/example-store.js';
import type { TokenExamples } from './objectives/next-token/token-examples.js';
import { planJob } from './plan-job.js';
import { type RowEncoding, viewRows } from './view-rows.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'view-rows-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function stored(format: UploadedDataset['format'], content: string) {
  const rowsFile = join(folder, 'data.jsonl');
  return { dataset: await storeDataset(rowsFile, format, content), rowsFile };
}

type Stored = Awaited<ReturnType<typeof stored>>;

const page = (files: Stored, after = 0, limit = 20) => viewRows({ ...files, after, limit, encoding: null });

async function tokensOf(model: ModelFolder, files: Stored, settings: Partial<RowEncoding['settings']> = {}) {
  const preset = { max_seq_length: 1024, on_overflow: 'error', completion_format: 'chat' } as const;
  const given = { ...preset, ...settings };
  const encoding = { model, texts: new ModelTexts(), settings: given };
  return (await viewRows({ ...files, after: 0, limit: 100, encoding })).data;
}

const textOf = ({ data }: RowTokens) => data.map(({ text }) => text).join('');
const trainedTextOf = ({ data }: RowTokens) =>
  data
    .filter(({ trained }) => trained)
    .map(({ text }) => text)
    .join('');

describe('rows as they were uploaded', () => {
  test('are given by their lines, page by page, without blank ones', async () => {
    const files = await stored('text', '\ufeff{"text":"a"}\r\n\n  \n{"text":"é"}\n{"text":"c"}');
    const first = await page(files, 0, 2);
    expect(first).toEqual({
      data: [
        { line: 1, text: '{"text":"a"}', characters: 12, faults: [], tokens: null },
        { line: 4, text: '{"text":"é"}', characters: 12, faults: [], tokens: null },
      ],
      has_more: true,
    });
    expect(await page(files, 4, 2)).toMatchObject({ data: [{ line: 5 }], has_more: false });
    expect(await page(files, 5)).toEqual({ data: [], has_more: false });
    expect(await page(files, 3, 1)).toMatchObject({ data: [{ line: 4 }], has_more: true });
  });

  test('have their numbers as they stand in the file', async () => {
    const row = '{"prompt": "a", "reference": {"price": 12.50, "id": 9007199254740993, "huge": [1e400, 1.0]}}';
    expect((await page(await stored('graded_prompt', `${row}\n`))).data).toMatchObject([{ text: row }]);
  });

  test('are cut where they are long, and end a page that has become large', async () => {
    const long = 'x'.repeat(20_000);
    const files = await stored('text', jsonLines(Array.from({ length: 40 }, () => ({ text: long }))));
    const { data, has_more } = await page(files, 0, 100);
    expect(data[0]!.text).toHaveLength(16_384);
    expect(data[0]!.characters).toBe(long.length + 11);
    expect(data.length).toBeLessThan(20);
    expect(has_more).toBe(true);
  });

  test('rows of a dataset that is gone are an error', async () => {
    const files = await stored('text', '');
    await rm(files.rowsFile);
    await expect(page(files)).rejects.toMatchObject({ code: 'dataset_not_found' });
  });
});

describe('rows as tokens', () => {
  const ROWS = [
    { prompt: 'Say 1.', completion: 'é漢🙂 is 1' },
    { prompt: 'Say 2.', completion: 'It is two, and a little more than that.' },
    { prompt: 'A prompt that is by far longer than its answer.', completion: 'x' },
  ];

  test('have the text of the chat template, of which only answers are trained', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const [first] = await tokensOf(model, await stored('prompt_completion', jsonLines(ROWS)));
    const { tokens } = first!;
    expect(textOf(tokens!)).toContain('user\nSay 1.');
    expect(trainedTextOf(tokens!)).toContain('é漢🙂 is 1');
    expect(trainedTextOf(tokens!)).not.toContain('Say');
    expect(tokens).toMatchObject({ outcome: 'complete', sequences: [{ start: 0, tokens: tokens!.total }] });
    expect(tokens!.data).toHaveLength(tokens!.total);
  });

  test.each(['error', 'drop', 'truncate', 'split'] as const)('are those that a job trains: %s', async (on_overflow) => {
    const model = await tinyDecoder('qwen2', CHATML);
    const files = await stored('prompt_completion', jsonLines(ROWS));
    // The second row is longer than that, in the middle of its answer; the third has no answer so early.
    const [, second] = await tokensOf(model, files);
    const max_seq_length = on_overflow === 'error' ? 1024 : second!.tokens!.total - 5;
    const rows = await tokensOf(model, files, { max_seq_length, on_overflow });
    const request = { base_model: 'tiny', dataset: files.dataset.id, validation: {}, lora: {} };
    const spec = Value.Default(JobSpec, { ...request, training: { max_seq_length, on_overflow } }) as JobSpec;
    const examples = await openExampleStore({ dataDir: folder, maxBytes: 2 ** 30 });
    const plan = await planJob({ ...files, spec, model, examples });
    const training = plan.training as TokenExamples;
    const trained = Array.from({ length: training.count }, (_, index) => ({
      line: training.lineOf(index),
      ids: [...training.sequence(index).ids],
      trained: [...training.sequence(index).trained],
    }));
    const viewed = rows.flatMap(({ line, tokens }) =>
      tokens!.sequences.map(({ start, tokens: length }) => {
        const piece = tokens!.data.slice(start, start + length);
        return { line, ids: piece.map(({ id }) => id), trained: piece.map((token) => (token.trained ? 1 : 0)) };
      }),
    );
    expect(viewed).toEqual(trained);
    expect(rows.reduce((sum, { tokens }) => sum + tokens!.trained, 0)).toBe(training.trainedTokens);
    for (const { tokens } of rows) {
      expect(tokens!.data.filter((token) => token.trained)).toHaveLength(tokens!.trained);
    }
    await plan.close();
  });

  test('the tokens of a row that is too long are shown with the fault that a job would have', async () => {
    const model = await tinyDecoder('qwen2', null);
    const files = await stored('text', jsonLines([{ text: 'ab' }, { text: 'abcdefgh' }]));
    const [short, long] = await tokensOf(model, files, { max_seq_length: 4 });
    expect(short).toMatchObject({ faults: [], tokens: { outcome: 'complete', trained: 2 } });
    expect(long!.faults).toMatchObject([{ code: 'row_too_long', line: 2 }]);
    expect(long!.tokens).toMatchObject({ outcome: 'refused', sequences: [], trained: 0, total: 8 });
    expect(textOf(long!.tokens!)).toContain('abcdefgh');
  });

  test('are shown up to a number, of many rows up to another', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = Array.from({ length: 12 }, () => ({ text: 'x'.repeat(5_000) }));
    const data = await tokensOf(model, await stored('text', jsonLines(rows)), { on_overflow: 'truncate' });
    expect(data[0]!.tokens).toMatchObject({ total: 5_001, outcome: 'truncated' });
    expect(data[0]!.tokens!.data).toHaveLength(4_096);
    expect(data.length).toBeLessThan(rows.length);
  });

  test('cannot be made of every row: the others are shown all the same', async () => {
    const failing = "{% if 'fail' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}";
    const model = await tinyDecoder('qwen2', failing + CHATML);
    const files = await stored(
      'prompt_completion',
      jsonLines([
        { prompt: 'fail', completion: 'b' },
        { prompt: 'a', completion: 'b' },
      ]),
    );
    const [bad, good] = await tokensOf(model, files);
    expect(bad).toMatchObject({ line: 1, tokens: null, faults: [{ code: 'chat_template_failed', line: 1 }] });
    expect(good).toMatchObject({ line: 2, faults: [], tokens: { outcome: 'complete' } });
  });

  test('a classifier has none, but rows that it cannot learn from', async () => {
    const files = await stored('features', '{"features":[1,2,3],"label":1}\n{"features":[1,2,3],"label":7}\n');
    const [good, bad] = await tokensOf(tinyClassifier(), files);
    expect(good).toMatchObject({ faults: [], tokens: null });
    expect(bad).toMatchObject({ faults: [{ code: 'label_out_of_range', line: 2 }], tokens: null });
    const decoder = await tinyDecoder('qwen2', null);
    await expect(tokensOf(decoder, files)).rejects.toMatchObject({ code: 'dataset_format_mismatch' });
  });
});
