import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Grader,
  JobSpec,
  JsonNumber,
  type ObjectiveRequest,
  objectiveOf,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { jsonLines, storeDataset } from '../../../test/stored-dataset.js';
import { CHATML, tinyDecoder } from '../../../test/tiny-model.js';
import { markedText, viewedRow } from '../../../test/viewed-row.js';
import { checkRow } from '../../dataset-row.js';
import { openExampleStore } from '../../example-file/example-store.js';
import { planJob } from '../../plan-job.js';
import type { PromptExamples } from './prompt-rows.js';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const tool = { type: 'function', function: { name: 'day', parameters: { type: 'object', properties: {} } } };

describe('a row of a graded prompt', () => {
  it.each([
    [{ prompt: 'a', reference: 'b' }],
    [{ prompt: 'a', reference: null }],
    [{ prompt: [user('a'), assistant('b'), user('c')], reference: { any: ['thing', 1] } }],
    [{ prompt: [user('a')], reference: 4, tools: [tool], parallel_tool_calls: false }],
  ])('is taken: %j', (row) => {
    expect(checkRow(row)).toEqual({ format: 'graded_prompt', row, faults: [] });
  });

  it.each([
    ['an empty prompt', { prompt: '', reference: 1 }, 'invalid_dataset', 'prompt'],
    ['no prompt', { reference: 1 }, 'invalid_dataset', undefined],
    ['tools of a text', { prompt: 'a', reference: 1, tools: [tool] }, 'invalid_dataset', 'tools'],
    ['an unknown key', { prompt: 'a', reference: 1, answer: 2 }, 'unknown_field', 'answer'],
    ['a lone surrogate', { prompt: 'a\ud800', reference: 1 }, 'invalid_dataset', 'prompt'],
    ['an answered prompt', { prompt: [user('a'), assistant('b')], reference: 1 }, 'invalid_dataset', 'prompt'],
    [
      'an image',
      { prompt: [{ role: 'user', content: [{ type: 'image_url' }] }], reference: 1 },
      'invalid_dataset',
      'prompt.0.content.0',
    ],
    [
      'an unknown key in a message',
      { prompt: [{ ...user('a'), weight: 1 }], reference: 1 },
      'unknown_field',
      'prompt.0.weight',
    ],
  ])('is refused with %s', (_, row, code, param) => {
    const { faults } = checkRow(row);
    expect(faults[0]).toMatchObject({ code, ...(param === undefined ? {} : { param }) });
  });

  it('is another where answers are beside it, or messages', () => {
    expect(checkRow({ prompt: 'a', chosen: 'b', rejected: 'c' }).format).toBe('preference');
    expect(checkRow({ messages: [user('a'), assistant('b')], reference: 1, prompt: 'a' }).format).toBe('messages');
  });
});

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'groups-'));
});
afterEach(() => rm(folder, { recursive: true }));

describe('the rows as tokens', () => {
  const viewed = (row: object, settings?: Parameters<typeof viewedRow>[3]) =>
    viewedRow(folder, 'graded_prompt', row, settings);

  test('are the prompt in the chat template, up to where the answer begins', async () => {
    const row = await viewed({ prompt: 'When?', reference: 'now' });
    expect(row.faults).toEqual([]);
    expect(markedText(row.tokens!)).toBe('<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n');
  });

  test('of messages have all of their turns', async () => {
    const row = await viewed({ prompt: [user('Hi'), assistant('Hello'), user('When?')], reference: null });
    const turns =
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nWhen?<|im_end|>\n';
    expect(markedText(row.tokens!)).toBe(`${turns}<|im_start|>assistant\n`);
  });

  test('without a template are text', async () => {
    const row = await viewed({ prompt: 'When? ', reference: null }, { completion_format: 'text' });
    expect(markedText(row.tokens!)).toBe('When? ');
  });
});

describe('a job on graded prompts', () => {
  const rows = [
    { prompt: 'When?', reference: { day: 3 } },
    { prompt: 'Where is it, and since when has it been there?', reference: { day: 'first' } },
    { prompt: 'Who?', reference: {} },
  ];
  const any: Grader = { type: 'regex', pattern: 'a' };

  async function planned(changes: {
    objective?: Omit<ObjectiveRequest, 'kind'> | null;
    training?: object;
    lora?: object;
    rows?: object[];
    format?: UploadedDataset['format'];
  }) {
    const { objective = {}, training = {}, lora = {} } = changes;
    const spec = Value.Default(JobSpec, {
      base_model: 'tiny',
      dataset: `ds_${'0'.repeat(24)}`,
      validation: {},
      lora,
      training,
      ...(objective === null
        ? {}
        : { objective: objectiveOf({ kind: 'group-relative', grader: any, max_completion_tokens: 16, ...objective }) }),
    }) as JobSpec;
    const examples = await openExampleStore({ dataDir: join(folder, 'store'), maxBytes: 2 ** 24 });
    const rowsFile = join(folder, 'data.jsonl');
    const dataset = await storeDataset(rowsFile, changes.format ?? 'graded_prompt', jsonLines(changes.rows ?? rows));
    return await planJob({ spec, model: await tinyDecoder('qwen2', CHATML), dataset, rowsFile, examples });
  }

  test('has prompts, and in its report the answers that are sampled', async () => {
    const plan = await planned({ objective: { updates_per_batch: 2 }, training: { batch_size: 2 } });
    expect(plan.graded.training!.at(1)).toEqual({ prompt: 'When?', reference: { day: new JsonNumber('3') } });
    const training = plan.training as PromptExamples;
    const lengths = [0, 1, 2].map((index) => training.prompt(index).length);
    const { report } = plan;
    expect(report.tokens).toMatchObject({ per_epoch: lengths.reduce((sum, one) => sum + one), trained_per_epoch: 0 });
    expect(report.steps).toMatchObject({ per_epoch: 4, total: 12 });
    expect(report.groups).toEqual({
      prompts: 3,
      answers_per_step: 16,
      most_tokens_per_step: 16 * (Math.max(...lengths) + 16),
    });
    await plan.close();
  });

  test('leaves out prompts whose answers would have no room, where that is said', async () => {
    const whole = await planned({});
    const { longest } = whole.report.rows;
    await whole.close();
    const training = { max_seq_length: longest - 1 + 16 };
    await expect(planned({ training })).rejects.toMatchObject({ code: 'row_too_long', details: [{ line: 2 }] });
    const plan = await planned({ training: { ...training, on_overflow: 'drop' } });
    expect(plan.report.rows).toMatchObject({ overflowed: 1, dropped: 1, training: 2 });
    await plan.close();
  });

  test('is refused with every row that lacks what the grader reads', async () => {
    const grader: Grader = { type: 'number', reference: '{{item.reference.day}}' };
    await expect(planned({ objective: { grader } })).rejects.toMatchObject({
      code: 'invalid_dataset',
      details: [
        { line: 2, message: expect.stringContaining('is "first", which is no number') },
        { line: 3, message: expect.stringContaining('no reference.day') },
      ],
    });
  });

  test.each([
    [{ objective: null }, 'objective', 'Set objective to {"kind": "group-relative"'],
    [{ objective: { grader: { type: 'regex' as const, pattern: '(' } } }, 'objective.grader.pattern', "RE2's syntax"],
    [{ lora: { dropout: 0.1 } }, 'lora.dropout', 'without dropout'],
    [{ training: { on_overflow: 'split' } }, 'training.on_overflow', 'A prompt is not cut'],
    [{ training: { on_overflow: 'truncate' } }, 'training.on_overflow', 'A prompt is not cut'],
    [{ objective: { max_completion_tokens: 4096 } }, 'objective.max_completion_tokens', 'no room for a prompt'],
    [{ rows: [{ text: 'a' }], format: 'text' as const }, 'objective.kind', 'the format text'],
    [
      { rows: [{ prompt: 'a', chosen: 'b', rejected: 'c' }], format: 'preference' as const },
      'objective',
      'pairs of a chosen',
    ],
  ])('is refused with %o', async (changes, param, message) => {
    await expect(planned(changes)).rejects.toMatchObject({
      code: 'invalid_job',
      details: [{ param, message: expect.stringContaining(message) }],
    });
  });
});
