import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { DatasetFormat } from '@lorasmith/contracts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type AskedRow, answersByPrompt, drawAskedRows, promptKey } from './asked-rows.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-asked-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const { signal } = new AbortController();
let files = 0;
async function fileOf(rows: unknown[]): Promise<string> {
  const file = path.join(folder, `${files++}.jsonl`);
  await writeFile(file, rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join(''));
  return file;
}
async function draw(
  format: DatasetFormat,
  rows: unknown[],
  more: { count?: number; seed?: number; keys?: Set<string> } = {},
) {
  return await drawAskedRows({ rowsFile: await fileOf(rows), format, count: 100, seed: 0, signal, ...more });
}
const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string, more: object = {}) => ({ role: 'assistant', content, ...more });
const calls = [{ function: { name: 'f', arguments: '{"x":1}' } }];

test.each<[DatasetFormat, object, unknown, unknown]>([
  [
    'messages',
    { messages: [user('a'), assistant('b', { weight: 1 }), user('c'), assistant('d')] },
    [user('a'), assistant('b'), user('c')],
    'd',
  ],
  ['messages', { messages: [user('a')] }, [user('a')], undefined],
  ['messages', { messages: [user('a'), assistant('', { tool_calls: calls })] }, [user('a')], 'f({"x":1})'],
  ['prompt_completion', { prompt: 'a', completion: 'b' }, [user('a')], 'b'],
  ['instruction', { instruction: 'a', input: 'b', output: 'c' }, [user('a\n\nb')], 'c'],
  ['preference', { prompt: 'a', chosen: 'b', rejected: 'c' }, [user('a')], 'b'],
  ['preference', { chosen: [user('a'), assistant('b')], rejected: [user('a'), assistant('c')] }, [user('a')], 'b'],
  [
    'openai_preference',
    { input: { messages: [user('a')] }, preferred_output: [assistant('b')], non_preferred_output: [assistant('c')] },
    [user('a')],
    'b',
  ],
  ['labelled_completion', { prompt: 'a', completion: 'b', label: true }, [user('a')], 'b'],
  ['labelled_completion', { prompt: 'a', completion: 'b', label: false }, [user('a')], undefined],
  ['graded_prompt', { prompt: [user('a')], reference: { city: 'Rome' } }, [user('a')], { city: 'Rome' }],
])('a row of %s has a prompt and its own answer: %j', async (format, row, messages, reference) => {
  expect(await draw(format, [row])).toMatchObject([{ line: 1, prompt: { messages }, reference }]);
});

test('a text is plain for a model that was trained on such, an instruction in the form of its training', async () => {
  const [row] = await draw('instruction', [{ instruction: 'Add.', output: 'c' }]);
  expect(row).toMatchObject({ prompt: { plainText: expect.stringContaining('### Instruction:\nAdd.') } });
  expect(await draw('prompt_completion', [{ prompt: 'a', completion: 'b' }])).toMatchObject([
    { prompt: { plainText: 'a' } },
  ]);
});

test('rows without a prompt and rows that are too long are named', async () => {
  const long = { prompt: 'x'.repeat(70_000), completion: 'b' };
  expect(await draw('messages', [{ messages: [assistant('a')] }])).toEqual([
    { line: 1, fault: 'The row has no prompt.' },
  ]);
  expect(await draw('prompt_completion', ['', long])).toEqual([
    { line: 2, fault: expect.stringContaining('65536 bytes') },
  ]);
});

test('a draw is the same for a seed, differs for another, and has every row if there are few', async () => {
  const rows = Array.from({ length: 50 }, (_, i) => ({ prompt: `p${i}`, completion: 'c' }));
  const lines = async (seed: number, count = 10) =>
    (await draw('prompt_completion', rows, { seed, count })).map(({ line }) => line);
  const first = await lines(1);
  expect(first).toHaveLength(10);
  expect(first).toEqual([...first].sort((one, other) => one - other));
  expect(await lines(1)).toEqual(first);
  expect(await lines(2)).not.toEqual(first);
  expect(await lines(1, 100)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
});

test('stored answers are found by their prompts, whatever the form of the row, and only such rows are drawn', async () => {
  const rowsFile = await fileOf([
    { messages: [user('p1'), assistant('the answer')] },
    { messages: [user('p1'), assistant('another')] },
    { messages: [user('p2')] },
  ]);
  const answers = await answersByPrompt({ rowsFile, format: 'messages', signal });
  expect([...answers.values()]).toEqual([{ line: 1, text: 'the answer' }]);
  const rows = Array.from({ length: 20 }, (_, i) => ({ prompt: `p${i}`, completion: 'c' }));
  const drawn = await draw('prompt_completion', rows, { keys: new Set(answers.keys()), count: 5 });
  expect(drawn).toMatchObject([{ line: 2, prompt: { messages: [user('p1')] } }]);
  expect(answers.has(promptKey((drawn[0] as AskedRow).prompt))).toBe(true);
});
