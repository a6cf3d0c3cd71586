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
import { answerOfCodes, balanceWarnings, codesOfAnswer, type LabelledExamples } from './labelled.js';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const tool = { type: 'function', function: { name: 'day', parameters: { type: 'object', properties: {} } } };
const calling = {
  role: 'assistant',
  content: null,
  tool_calls: [{ id: 'a', type: 'function', function: { name: 'day', arguments: '{}' } }],
};

describe('a row of an answer with a label', () => {
  it.each([
    [{ prompt: 'a', completion: 'b', label: true }],
    [{ prompt: '', completion: 'b', label: false }],
    [{ prompt: [user('a')], completion: [assistant('b')], label: false }],
    [{ prompt: [user('a')], completion: [calling], label: true, tools: [tool], parallel_tool_calls: false }],
  ])('is taken: %j', (row) => {
    expect(checkRow(row)).toEqual({ format: 'labelled_completion', row, faults: [] });
  });

  it.each([
    ['an empty answer', { prompt: 'a', completion: '', label: true }, 'no_trained_tokens', 'completion'],
    ['no answer', { prompt: 'a', label: true }, 'invalid_dataset', 'completion'],
    ['no prompt', { completion: 'a', label: true }, 'invalid_dataset', 'prompt'],
    ['a number as its label', { prompt: 'a', completion: 'b', label: 1 }, 'invalid_dataset', 'label'],
    ['a text as its label', { prompt: 'a', completion: 'b', label: 'true' }, 'invalid_dataset', 'label'],
    ['text and messages', { prompt: 'a', completion: [assistant('b')], label: true }, 'invalid_dataset', 'completion'],
    ['tools of texts', { prompt: 'a', completion: 'b', label: true, tools: [tool] }, 'invalid_dataset', 'tools'],
    ['an unknown key', { prompt: 'a', completion: 'b', label: true, score: 1 }, 'unknown_field', 'score'],
    ['a lone surrogate', { prompt: 'a\ud800', completion: 'b', label: true }, 'invalid_dataset', 'prompt'],
    [
      'a prompt that ends with an answer',
      { prompt: [user('a'), assistant('b')], completion: [assistant('c')], label: true },
      'invalid_dataset',
      'prompt',
    ],
    [
      'an empty turn',
      { prompt: [user('a')], completion: [assistant('')], label: true },
      'no_trained_tokens',
      'completion',
    ],
    [
      'an image',
      { prompt: [user('a')], completion: [{ role: 'assistant', content: [{ type: 'image_url' }] }], label: true },
      'invalid_dataset',
      'completion.0.content.0',
    ],
    [
      'an answer to no call',
      {
        prompt: [user('a')],
        completion: [{ role: 'tool', tool_call_id: 'x', content: '1' }, assistant('b')],
        label: true,
      },
      'invalid_dataset',
      'completion.0.tool_call_id',
    ],
    [
      'an unknown key in a message',
      { prompt: [{ ...user('a'), weight: 1 }], completion: [assistant('b')], label: true },
      'unknown_field',
      'prompt.0.weight',
    ],
  ])('is refused with %s', (_, row, code, param) => {
    const { format, faults } = checkRow(row);
    expect(format).toBe('labelled_completion');
    expect(faults[0]).toMatchObject({ code, param });
  });

  it('is another where the label is beside other keys', () => {
    expect(checkRow({ features: [1], label: 1 }).format).toBe('features');
    expect(checkRow({ text: 'a', label: true })).toMatchObject({ format: 'text', faults: [{ param: 'label' }] });
  });
});

test('the label of an answer is in its first code, and stays with what is cut', () => {
  const sequence = { ids: Int32Array.of(5, 6, 7), trained: Uint8Array.of(0, 0, 1) };
  for (const label of [true, false]) {
    const codes = codesOfAnswer({ sequence, label });
    expect(answerOfCodes(codes)).toEqual({ sequence, label });
    expect(answerOfCodes(codes.subarray(0, 2))).toEqual({
      sequence: { ids: Int32Array.of(5, 6), trained: Uint8Array.of(0, 0) },
      label,
    });
  }
});

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'labelled-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function stored(rows: readonly object[], format: UploadedDataset['format'] = 'labelled_completion') {
  const rowsFile = join(folder, 'data.jsonl');
  return { dataset: await storeDataset(rowsFile, format, jsonLines(rows)), rowsFile };
}

const viewed = (row: object, settings?: Partial<RowEncoding['settings']>) =>
  viewedRow(folder, 'labelled_completion', row, settings);

describe('the rows as tokens', () => {
  const asked = '<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n';

  test('are the prompt in the chat template with the answer, of which only that is trained', async () => {
    for (const label of [true, false]) {
      const row = await viewed({ prompt: 'When?', completion: 'now', label });
      expect(row).toMatchObject({ faults: [], label });
      expect(markedText(row.tokens!)).toBe(`${asked}[now<|im_end|>\n]`);
    }
  });

  test('of messages train no turn of the prompt', async () => {
    const prompt = [user('Hi'), assistant('Hello'), user('When?')];
    const row = await viewed({ prompt, completion: [assistant('now')], label: true });
    const before = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n';
    expect(markedText(row.tokens!)).toBe(`${before}${asked}[now<|im_end|>\n]`);
  });

  test('without a template are text with the end of text', async () => {
    const row = await viewed({ prompt: 'When? ', completion: 'now', label: true }, { completion_format: 'text' });
    expect(markedText(row.tokens!)).toBe('When? [now<|im_end|>]');
  });

  test('are cut, and left out where nothing of the answer is left', async () => {
    const answered = { prompt: 'When?', completion: 'not now, and not at any time that I could name', label: true };
    const whole = await viewed(answered);
    const length = whole.tokens!.total - 3;
    const refused = await viewed(answered, { max_seq_length: length });
    expect(refused.faults).toMatchObject([{ code: 'row_too_long', line: 1 }]);
    expect(refused.faults[0]!.message).toContain('set training.on_overflow to drop or truncate.');
    const cut = await viewed(answered, { max_seq_length: length, on_overflow: 'truncate' });
    expect(cut.tokens).toMatchObject({ outcome: 'truncated', sequences: [{ start: 0, tokens: length }] });
    const prompt = whole.tokens!.data.findIndex(({ trained }) => trained);
    const left = await viewed(answered, { max_seq_length: prompt, on_overflow: 'truncate' });
    expect(left.tokens).toMatchObject({ outcome: 'dropped', sequences: [], trained: 0 });
  });
});

describe('a job on answers with a label', () => {
  const rows = [
    { prompt: 'When?', completion: 'now', label: true },
    { prompt: 'Where?', completion: 'there', label: false },
    { prompt: 'Who?', completion: 'not me, and nobody else', label: false },
  ];

  async function planned(changes: {
    objective?: Omit<ObjectiveRequest, 'kind'> | null;
    training?: object;
    lora?: object;
    rows?: object[];
    format?: UploadedDataset['format'];
  }) {
    const { objective = { loss: 'kto' }, training = {}, lora = {} } = changes;
    const spec = Value.Default(JobSpec, {
      base_model: 'tiny',
      dataset: `ds_${'0'.repeat(24)}`,
      validation: {},
      lora,
      training: { learning_rate: 1e-2, ...training },
      ...(objective === null ? {} : { objective: objectiveOf({ kind: 'preference', ...objective }) }),
    }) as JobSpec;
    const examples = await openExampleStore({ dataDir: join(folder, 'store'), maxBytes: 2 ** 24 });
    const files = await stored(changes.rows ?? rows, changes.format);
    return await planJob({ spec, model: await tinyDecoder('qwen2', CHATML), ...files, examples });
  }

  test('has answers, and their labels in its report', async () => {
    const plan = await planned({});
    const { report } = plan;
    const training = plan.training as LabelledExamples;
    expect([0, 1, 2].map((index) => training.label(index))).toEqual([true, false, false]);
    expect(report.labels).toEqual({ desirable: 1, undesirable: 2 });
    expect(report.preference).toBeUndefined();
    expect(report.rendered).toMatchObject({ completion_format: 'chat', label: true });
    expect(report.rendered!.first_row.map(({ trained }) => trained)).toEqual([false, true]);
    const lengths = [0, 1, 2].map((index) => training.answer(index).sequence.ids.length);
    expect(report.tokens.per_epoch).toBe(lengths.reduce((sum, length) => sum + length));
    expect(report.warnings).toMatchObject([{ code: 'unbalanced_labels', param: 'objective.desirable_weight' }]);
    await plan.close();
  });

  test('keeps the label of an answer that is cut', async () => {
    const whole = await planned({});
    const most = whole.report.rows.longest - 3;
    await whole.close();
    const plan = await planned({ training: { max_seq_length: most, on_overflow: 'truncate' } });
    const { sequence, label } = (plan.training as LabelledExamples).answer(2);
    expect([sequence.ids.length, label]).toEqual([most, false]);
    expect(plan.report.rows).toMatchObject({ overflowed: 1, truncated: 1, training: 3 });
    await plan.close();
  });

  test.each([
    [{ objective: null }, 'objective', 'Set objective to {"kind": "preference", "loss": "kto"}'],
    [{ objective: {} }, 'objective.loss', 'Set objective.loss to kto or apo_zero_unpaired'],
    [{ objective: { loss: 'kto' as const, sft_weight: 0.5 } }, 'objective.sft_weight', 'has no sft_weight'],
    [{ objective: { loss: 'kto' as const, gamma: 1 } }, 'objective.gamma', 'only simpo'],
    [{ lora: { dropout: 0.1 } }, 'lora.dropout', 'without dropout'],
    [{ training: { on_overflow: 'split' } }, 'training.on_overflow', 'cannot be split'],
    [{ training: { batch_size: 1 } }, 'training.batch_size', 'to 2 or more'],
    [
      { rows: [{ prompt: 'a', chosen: 'b', rejected: 'c' }], format: 'preference' as const },
      'objective.loss',
      'the dataset has pairs',
    ],
    [
      {
        objective: { desirable_weight: 2 },
        rows: [{ prompt: 'a', chosen: 'b', rejected: 'c' }],
        format: 'preference' as const,
      },
      'objective.desirable_weight',
      'kto, apo_zero_unpaired have it',
    ],
    [{ rows: [{ text: 'a' }], format: 'text' as const }, 'objective.kind', 'the format text'],
  ])('is refused with %o', async (changes, param, message) => {
    await expect(planned(changes)).rejects.toMatchObject({
      code: 'invalid_job',
      details: [{ param, message: expect.stringContaining(message) }],
    });
  });

  test('of apo_zero_unpaired may have steps of one answer', async () => {
    const plan = await planned({ objective: { loss: 'apo_zero_unpaired' }, training: { batch_size: 1 } });
    expect(plan.steps.perEpoch).toBe(3);
    await plan.close();
  });
});

describe('labels of unlike number', () => {
  const weights = (desirable_weight: number, undesirable_weight: number) =>
    objectiveOf({ kind: 'preference', loss: 'kto', desirable_weight, undesirable_weight });

  test('are a warning with the ranges that TRL names', () => {
    const [warning] = balanceWarnings({ desirable: 300, undesirable: 100 }, weights(1, 1));
    expect(warning!.message).toContain('objective.desirable_weight from 0.33 to 0.44');
    expect(warning!.message).toContain('objective.undesirable_weight from 2.26 to 3, not both');
  });

  test.each([
    [{ desirable: 100, undesirable: 100 }, weights(1, 5)],
    [{ desirable: 300, undesirable: 100 }, weights(0.4, 1)],
    [{ desirable: 300, undesirable: 100 }, weights(1, 2.5)],
  ])('are none of %j with the weights of %j', (counts, objective) => {
    expect(balanceWarnings(counts, objective)).toEqual([]);
  });

  test('are named where there is one only', () => {
    const message = ({ desirable, undesirable }: { desirable: number; undesirable: number }) =>
      balanceWarnings({ desirable, undesirable }, weights(1, 1))[0]!.message;
    expect(message({ desirable: 5, undesirable: 0 })).toContain('Add some with the label false');
    expect(message({ desirable: 0, undesirable: 5 })).toContain('Add some with the label true');
  });
});
