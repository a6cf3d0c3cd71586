import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JobSpec, type ObjectiveRequest, objectiveOf, type UploadedDataset } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { jsonLines, storeDataset } from '../../../test/stored-dataset.js';
import { CHATML, tinyDecoder } from '../../../test/tiny-model.js';
import { markedText, viewedRow } from '../../../test/viewed-row.js';
import { checkRow } from '../../dataset-row.js';
import { openExampleStore } from '../../example-file/example-store.js';
import { planJob } from '../../plan-job.js';
import type { RowEncoding } from '../../view-rows.js';
import { codesOfPair, longerOf, type PairExamples, pairOfCodes } from './pair-rows.js';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const tool = { type: 'function', function: { name: 'day', parameters: { type: 'object', properties: {} } } };
const calling = {
  role: 'assistant',
  content: null,
  tool_calls: [{ id: 'a', type: 'function', function: { name: 'day', arguments: '{}' } }],
};

describe('a row of two answers', () => {
  it.each([
    ['preference', { prompt: 'a', chosen: 'b', rejected: 'c' }],
    ['preference', { prompt: '', chosen: 'b', rejected: 'c' }],
    ['preference', { chosen: 'a b', rejected: 'a c' }],
    ['preference', { prompt: [user('a')], chosen: [assistant('b')], rejected: [assistant('c')] }],
    ['preference', { chosen: [user('a'), assistant('b')], rejected: [user('a'), assistant('c')] }],
    ['preference', { prompt: [user('a')], chosen: [calling], rejected: [assistant('c')], tools: [tool] }],
    [
      'openai_preference',
      { input: { messages: [user('a')] }, preferred_output: [assistant('b')], non_preferred_output: [assistant('c')] },
    ],
    [
      'openai_preference',
      {
        input: { messages: [user('a')], tools: [tool], parallel_tool_calls: false },
        preferred_output: [calling],
        non_preferred_output: [assistant('c')],
      },
    ],
  ])('is of the format %s', (format, row) => {
    expect(checkRow(row)).toEqual({ format, row, faults: [] });
  });

  const openai = (changes: object) => ({
    input: { messages: [user('a')] },
    preferred_output: [assistant('b')],
    non_preferred_output: [assistant('c')],
    ...changes,
  });
  it.each([
    ['the same text twice', { prompt: 'a', chosen: 'b', rejected: 'b' }, 'invalid_dataset', 'rejected'],
    ['the same text twice, with its prompt', { chosen: 'a b', rejected: 'a b' }, 'invalid_dataset', 'rejected'],
    ['an empty answer', { prompt: 'a', chosen: '', rejected: 'b' }, 'no_trained_tokens', 'chosen'],
    ['an answer that only repeats the prompt', { chosen: 'a b', rejected: 'a ' }, 'no_trained_tokens', 'rejected'],
    ['no rejected answer', { prompt: 'a', chosen: 'b' }, 'invalid_dataset', 'rejected'],
    ['text and messages', { prompt: 'a', chosen: 'b', rejected: [assistant('c')] }, 'invalid_dataset', 'rejected'],
    [
      'a text for messages',
      { prompt: 'a', chosen: [assistant('b')], rejected: [assistant('c')] },
      'invalid_dataset',
      'rejected',
    ],
    ['tools of texts', { prompt: 'a', chosen: 'b', rejected: 'c', tools: [tool] }, 'invalid_dataset', 'tools'],
    ['a number', { prompt: 'a', chosen: 1, rejected: 'b' }, 'invalid_dataset', 'chosen'],
    ['an unknown key', { prompt: 'a', chosen: 'b', rejected: 'c', score: 1 }, 'unknown_field', 'score'],
    ['a lone surrogate', { prompt: 'a', chosen: 'b\ud800', rejected: 'c' }, 'invalid_dataset', 'chosen'],
    [
      'no shared messages',
      { chosen: [user('a'), assistant('b')], rejected: [user('b'), assistant('c')] },
      'invalid_dataset',
      'chosen',
    ],
    [
      'a prompt that ends with an answer',
      { prompt: [user('a'), assistant('b')], chosen: [assistant('c')], rejected: [assistant('d')] },
      'invalid_dataset',
      'prompt',
    ],
    [
      'an empty turn',
      { prompt: [user('a')], chosen: [assistant('')], rejected: [assistant('c')] },
      'no_trained_tokens',
      'chosen',
    ],
    [
      'a weight',
      { prompt: [user('a')], chosen: [{ ...assistant('b'), weight: 1 }], rejected: [assistant('c')] },
      'unknown_field',
      'chosen.0.weight',
    ],
    ['equal outputs', openai({ non_preferred_output: [assistant('b')] }), 'invalid_dataset', 'non_preferred_output'],
    [
      'no input',
      { preferred_output: [assistant('b')], non_preferred_output: [assistant('c')] },
      'invalid_dataset',
      'input',
    ],
    [
      'an image',
      openai({ preferred_output: [{ role: 'assistant', content: [{ type: 'image_url' }] }] }),
      'invalid_dataset',
      'preferred_output.0.content.0',
    ],
    [
      'an answer to no call',
      openai({ preferred_output: [{ role: 'tool', tool_call_id: 'x', content: '1' }] }),
      'invalid_dataset',
      'preferred_output.0.tool_call_id',
    ],
    [
      'two tools of a name',
      openai({ input: { messages: [user('a')], tools: [tool, tool] } }),
      'invalid_dataset',
      'input.tools.1.function.name',
    ],
    [
      'a fault in what both begin with',
      {
        chosen: [{ ...user('a'), tool_call_id: 'x' }, assistant('b')],
        rejected: [{ ...user('a'), tool_call_id: 'x' }, assistant('c')],
      },
      'invalid_dataset',
      'chosen.0.tool_call_id',
    ],
    [
      'a fault after it',
      { chosen: [user('a'), assistant('b')], rejected: [user('a'), { ...assistant('c'), tool_call_id: 'x' }] },
      'invalid_dataset',
      'rejected.1.tool_call_id',
    ],
  ])('is refused with %s', (_, row, code, param) => {
    const { faults } = checkRow(row);
    expect(faults[0]).toMatchObject({ code, param });
  });
});

test('a pair is stored so that a piece of its codes is the pair, with both cut alike', () => {
  const sequence = (ids: number[], prompt: number) => ({
    ids: Int32Array.from(ids),
    trained: Uint8Array.from(ids, (_, token) => Number(token >= prompt)),
  });
  const pair = { chosen: sequence([5, 6, 7, 8], 2), rejected: sequence([5, 6, 9, 10, 11, 12], 2) };
  const codes = codesOfPair(pair);
  expect(pairOfCodes(codes)).toEqual(pair);
  expect(longerOf(codes)).toBe(6);
  expect(pairOfCodes(codes.subarray(1, 7))).toEqual({
    chosen: sequence([5, 6, 7], 2),
    rejected: sequence([5, 6, 9], 2),
  });
  expect(pairOfCodes(codesOfPair({ chosen: sequence([3], 1), rejected: sequence([0, 1], 1) })).rejected.ids).toEqual(
    Int32Array.of(0, 1),
  );
});

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'preference-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function stored(format: UploadedDataset['format'], rows: readonly object[]) {
  const rowsFile = join(folder, 'data.jsonl');
  return { dataset: await storeDataset(rowsFile, format, jsonLines(rows)), rowsFile };
}

const viewed = (format: UploadedDataset['format'], row: object, settings?: Partial<RowEncoding['settings']>) =>
  viewedRow(folder, format, row, settings);

describe('the rows as tokens', () => {
  const asked = '<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n';

  test('are the prompt in the chat template with each answer, of which only that is trained', async () => {
    const row = await viewed('preference', { prompt: 'When?', chosen: '2024-05-01', rejected: 'May 1st' });
    expect(row.faults).toEqual([]);
    expect(markedText(row.tokens!)).toBe(`${asked}[2024-05-01<|im_end|>\n]`);
    expect(markedText(row.rejected_tokens!)).toBe(`${asked}[May 1st<|im_end|>\n]`);
    expect(row.tokens!.outcome).toBe('complete');
  });

  test('of messages train no turn of the prompt', async () => {
    const prompt = [user('Hi'), assistant('Hello'), user('When?')];
    const row = await viewed('preference', { prompt, chosen: [assistant('now')], rejected: [assistant('later')] });
    const before = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n';
    expect(markedText(row.tokens!)).toBe(`${before}${asked}[now<|im_end|>\n]`);
    expect(markedText(row.rejected_tokens!)).toBe(`${before}${asked}[later<|im_end|>\n]`);
  });

  test('of whole conversations take the messages that both begin with as the prompt', async () => {
    const shared = [user('Hi'), assistant('Hello'), user('When?')];
    const implicit = { chosen: [...shared, assistant('now')], rejected: [...shared, assistant('later')] };
    const explicit = { prompt: shared, chosen: [assistant('now')], rejected: [assistant('later')] };
    const [one, other] = [await viewed('preference', implicit), await viewed('preference', explicit)];
    expect(one.tokens).toEqual(other.tokens);
    expect(one.rejected_tokens).toEqual(other.rejected_tokens);
  });

  test('of OpenAI are the same as those of messages', async () => {
    const answers = { chosen: [assistant('now')], rejected: [assistant('later')] };
    const one = await viewed('preference', { prompt: [user('When?')], ...answers });
    const input = { messages: [user('When?')] };
    const outputs = { preferred_output: answers.chosen, non_preferred_output: answers.rejected };
    const other = await viewed('openai_preference', { input, ...outputs });
    expect([other.tokens, other.rejected_tokens]).toEqual([one.tokens, one.rejected_tokens]);
  });

  test('of text that both begin with are written as they are, with the end of text', async () => {
    const row = await viewed('preference', { chosen: 'Q: When? A: now', rejected: 'Q: When? A: later' });
    expect(markedText(row.tokens!)).toBe('Q: When? A:[ now<|im_end|>]');
    expect(markedText(row.rejected_tokens!)).toBe('Q: When? A:[ later<|im_end|>]');
  });

  test('are cut alike, and left out where an answer has nothing left', async () => {
    const row = { prompt: 'When?', chosen: 'now', rejected: 'not now, and not at any time that I could name' };
    const whole = await viewed('preference', row);
    const length = whole.tokens!.total + 2;
    const refused = await viewed('preference', row, { max_seq_length: length });
    expect(refused.faults).toMatchObject([{ code: 'row_too_long', line: 1 }]);
    expect(refused.faults[0]!.message).toContain('set training.on_overflow to drop or truncate');
    const cut = await viewed('preference', row, { max_seq_length: length, on_overflow: 'truncate' });
    expect(cut.tokens).toMatchObject({ outcome: 'truncated', sequences: [{ start: 0, tokens: length - 2 }] });
    expect(cut.rejected_tokens).toMatchObject({ outcome: 'truncated', sequences: [{ start: 0, tokens: length }] });
    const prompt = whole.tokens!.data.findIndex(({ trained }) => trained);
    const left = await viewed('preference', row, { max_seq_length: prompt, on_overflow: 'truncate' });
    expect(left.tokens).toMatchObject({ outcome: 'dropped', sequences: [], trained: 0 });
  });
});

describe('a job on pairs', () => {
  const rows = [
    { prompt: 'When?', chosen: 'now', rejected: 'not now, and not at any time that I could name' },
    { prompt: 'Where?', chosen: 'here', rejected: 'there' },
  ];

  async function planned(changes: {
    objective?: Omit<ObjectiveRequest, 'kind'> | null;
    training?: object;
    lora?: object;
    rows?: object[];
    format?: UploadedDataset['format'];
  }) {
    const { objective = {}, training = {}, lora = {}, format = 'preference' } = changes;
    const spec = Value.Default(JobSpec, {
      base_model: 'tiny',
      dataset: `ds_${'0'.repeat(24)}`,
      validation: {},
      lora,
      training,
      ...(objective === null ? {} : { objective: objectiveOf({ kind: 'preference', ...objective }) }),
    }) as JobSpec;
    const examples = await openExampleStore({ dataDir: join(folder, 'store'), maxBytes: 2 ** 24 });
    const files = await stored(format, changes.rows ?? rows);
    return await planJob({ spec, model: await tinyDecoder('qwen2', CHATML), ...files, examples });
  }

  test('has pairs, and in its report both sides of the first', async () => {
    const plan = await planned({});
    const { report } = plan;
    const training = plan.training as PairExamples;
    expect(report.preference).toEqual({ pairs: 2, reference_accuracy: null });
    expect(report.rendered!.first_row.map(({ trained }) => trained)).toEqual([false, true]);
    expect(report.rendered!.rejected!.at(-1)!.text).toContain('not at any time');
    const lengths = [0, 1].flatMap((index) => Object.values(training.pair(index)).map(({ ids }) => ids.length));
    expect(report.tokens.per_epoch).toBe(lengths.reduce((sum, length) => sum + length));
    expect(report.rows.longest).toBe(Math.max(...lengths));
    await plan.close();
  });

  test('cuts both sides of a pair that is too long', async () => {
    const whole = await planned({});
    const most = whole.report.rows.longest - 3;
    const { chosen } = (whole.training as PairExamples).pair(0);
    await whole.close();
    const plan = await planned({ training: { max_seq_length: most, on_overflow: 'truncate' } });
    const cut = (plan.training as PairExamples).pair(0);
    expect(cut.chosen).toEqual(chosen);
    expect(cut.rejected.ids).toHaveLength(most);
    expect(plan.report.rows).toMatchObject({ overflowed: 1, truncated: 1, training: 2 });
    await plan.close();
  });

  test.each([
    [{ objective: null }, 'objective', 'Set objective to {"kind": "preference"}'],
    [{ lora: { dropout: 0.1 } }, 'lora.dropout', 'without dropout'],
    [{ training: { on_overflow: 'split' } }, 'training.on_overflow', 'cannot be split'],
    [{ objective: { label_smoothing: 0.1 } }, 'objective.label_smoothing', 'robust, cpo, simpo have it'],
    [{ objective: { gamma: 1 } }, 'objective.gamma', 'only simpo'],
    [{ rows: [{ text: 'a' }], format: 'text' as const }, 'objective.kind', 'the format text'],
  ])('is refused with %o', async (changes, param, message) => {
    await expect(planned(changes)).rejects.toMatchObject({
      code: 'invalid_job',
      details: [{ param, message: expect.stringContaining(message) }],
    });
  });
});
