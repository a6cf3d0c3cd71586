import { parseColumnMapping } from '@lorasmith/row-files';
import { expect, test } from 'vitest';
import { mapRow } from './map-row.js';

const turns = (...of: [string, unknown][]) => of.map(([from, value]) => ({ from, value }));
const pair = turns(['human', 'a'], ['gpt', 'b']);
const messages = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
];
const system = { role: 'system', content: 's' };
const tool = { type: 'function', function: { name: 'f' } };

test.each([
  ['turns', { conversations: pair }, { messages }],
  ['turns with the names of roles', { conversations: turns(['user', 'a'], ['assistant', 'b']) }, { messages }],
  ['turns with role and content', { conversations: messages }, { messages }],
  ['a system turn', { conversations: [...turns(['system', 's']), ...pair] }, { messages: [system, ...messages] }],
  ['a column "system"', { conversations: pair, system: 's' }, { messages: [system, ...messages] }],
  ['an empty column "system"', { conversations: pair, system: '' }, { messages }],
  ['tools', { conversations: pair, tools: [tool] }, { messages, tools: [tool] }],
  ['no tools', { conversations: pair, tools: '[]' }, { messages }],
  [
    'weights',
    { conversations: [pair[0], { ...pair[1], weight: 0 }, ...turns(['human', 'c'], ['gpt', 'd'])] },
    {
      messages: [
        messages[0],
        { ...messages[1], weight: 0 },
        { role: 'user', content: 'c' },
        { role: 'assistant', content: 'd' },
      ],
    },
  ],
])('a ShareGPT row with %s becomes messages', (_name, row, mapped) => {
  const mappings = ['ShareGPT\'s "conversations" became "messages"'];
  expect(mapRow(row)).toEqual({ row: mapped, mappings, leftOut: [] });
});

test('columns of a ShareGPT row and of its turns that are not used are named', () => {
  const row = { id: 'x', conversations: pair.map((turn) => ({ ...turn, lang: 'en' })), source: 'y' };
  expect(mapRow(row)).toMatchObject({ row: { messages }, leftOut: ['id', 'source', 'conversations[].lang'] });
});

test.each([
  [{ conversations: 'a' }, 'conversations', 'a list'],
  [{ conversations: ['a'] }, 'conversations.0', '{"from", "value"}'],
  [{ conversations: turns(['bing', 'a']) }, 'conversations.0.from', 'system, human, user, gpt, assistant'],
  [{ conversations: [{ role: 'critic', content: 'a' }] }, 'conversations.0.role', 'system, human'],
  [{ conversations: turns(['human', 7]) }, 'conversations.0.value', 'missing'],
  [{ conversations: [...pair, ...turns(['function_call', '{}'])] }, 'conversations.2.from', '"tool_calls"'],
  [{ conversations: turns(['observation', '{}']) }, 'conversations.0.from', '"tool_calls"'],
  [{ conversations: pair, tools: '[{"name":"f"}]' }, 'tools', 'not text'],
  [{ conversations: [...turns(['system', 's']), ...pair], system: 't' }, 'system', 'Leave one out'],
  [{ conversations: pair, system: 7 }, 'system', 'text'],
  [{ conversations: pair, chosen: {}, rejected: {} }, 'chosen', '"chosen": [messages]'],
  [{ messages, label: false }, 'label', 'trained as wanted'],
  [{ prompt: 'a', messages, label: true }, 'label', 'KTO'],
  [{ prompt: 'a', chosen: 'b', rejected: 'c', label: true }, 'label', 'KTO'],
  [{ instruction: 'a', output: 'b', label: true }, 'label', '"completion", "label"'],
  [{ prompt: 'a', completion: 'b', label: 'true' }, 'label', 'no text'],
  [{ conversations: pair, kto_tag: true }, 'kto_tag', 'KTO'],
  [{ text: 'a', label: 1 }, 'label', 'not classified'],
  [{ input: 'a', output: 'b' }, 'instruction', '{"prompt": the input, "completion": the output}'],
])('%j is refused at %s', (row, param, part) => {
  const message = expect.stringContaining(part);
  expect(mapRow(row)).toEqual([{ code: 'invalid_dataset', message, param }]);
});

test.each([
  [null],
  [7],
  [[]],
  [{ text: 'a' }],
  [{ messages, tools: [tool] }],
  [{ features: [1], label: 1 }],
  [{ prompt: 'a', chosen: 'b', rejected: 'c' }],
  [{ prompt: 'a', completion: 'b', label: true }],
  [{ prompt: messages, completion: messages, label: false, tools: [tool] }],
])('%j stays as it is', (row) => {
  const mapped = mapRow(row);
  expect(mapped).toEqual({ row, mappings: [], leftOut: [] });
  expect('row' in mapped && mapped.row).toBe(row);
});

test('messages with preferences beside them are trained, and the preferences are named', () => {
  const row = { prompt: 'a', messages, chosen: messages, rejected: [] };
  expect(mapRow(row)).toMatchObject({ row: { messages }, leftOut: ['prompt', 'chosen', 'rejected'] });
});

test('pairs of answers leave out the columns beside them', () => {
  const row = { prompt: 'a', chosen: 'b', rejected: 'c', score_chosen: 7 };
  const { score_chosen: _, ...used } = row;
  expect(mapRow(row)).toEqual({ row: used, mappings: [], leftOut: ['score_chosen'] });
});

test("answers with a label leave out the columns beside them, and take LLaMA-Factory's as a label by a mapping", () => {
  const row = { prompt: 'a', completion: 'b', label: true };
  expect(mapRow({ ...row, source: 'x' })).toEqual({ row, mappings: [], leftOut: ['source'] });
  const columns = parseColumnMapping('prompt:instruction,completion:output,label:kto_tag');
  const mapped = mapRow({ instruction: 'a', input: '', output: 'b', kto_tag: true }, columns);
  expect(mapped).toMatchObject({ row, leftOut: ['input'] });
});

const COLUMNS = parseColumnMapping('prompt:question,completion:answer');

test('a row has the columns of the mapping alone, under their names', () => {
  const row = { id: 7, question: 'a', answer: 'b', label: true, prompt: 'c' };
  expect(mapRow(row, COLUMNS)).toEqual({
    row: { prompt: 'a', completion: 'b' },
    mappings: ['"question" became "prompt", "answer" became "completion"'],
    leftOut: ['id', 'label', 'prompt'],
  });
});

test('conversations of another name become messages', () => {
  const mapped = mapRow({ turns: pair, id: 1 }, parseColumnMapping('conversations:turns'));
  expect(mapped).toMatchObject({
    row: { messages },
    mappings: ['"turns" became "conversations"', 'ShareGPT\'s "conversations" became "messages"'],
    leftOut: ['id'],
  });
});

test('a row that lacks columns of the mapping is refused at each', () => {
  expect(mapRow({ question: 'a' }, COLUMNS)).toMatchObject([
    { param: 'answer', message: expect.stringContaining('no column "answer"') },
  ]);
});
