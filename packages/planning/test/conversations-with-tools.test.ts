import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MessagesRow } from '@lorasmith/contracts';
import { loadChatTemplate, loadTokenizer } from '@lorasmith/model-folder';
import { describe, expect, it } from 'vitest';
import { RowEncoder } from '../src/objectives/next-token/encode-row.js';
import { CHATML, tinyTokenizerFolder } from './tiny-model.js';

// Made by fixtures/tools/make.py with transformers.
const path = join(import.meta.dirname, 'fixtures/tools/cases.json');
const { models, cases, now } = JSON.parse(await readFile(path, 'utf8'));

interface Case extends MessagesRow {
  model: string;
  error?: string;
  text: string;
  ids: number[];
  trained: [start: number, end: number][] | null;
}

async function encoderOf(model: string) {
  const { template, tokens, added } = models[model];
  return await encoderWith(template, tokens, added);
}

async function encoderWith(template: string, tokens: object, added: Record<string, number> = {}) {
  const folder = await tinyTokenizerFolder('qwen2', template);
  const file = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
  for (const [content, id] of Object.entries(added)) file.added_tokens.push({ id, content, special: true });
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(file));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokens));
  const tokenizer = await loadTokenizer(folder);
  const chat = await loadChatTemplate(folder, { now: new Date(now) });
  const encoder = new RowEncoder({ tokenizer, template: chat, endTokenIds: [tokenizer.eosTokenId!] });
  return { tokenizer, encoder };
}

function runsOf(mask: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (let start = mask.indexOf(1); start >= 0; start = mask.indexOf(1, start)) {
    const end = mask.indexOf(0, start);
    runs.push([start, end < 0 ? mask.length : end]);
    if (end < 0) break;
    start = end;
  }
  return runs;
}

it.each(Object.keys(models))(
  '%s: the tokens of conversations with tools, and which are trained, as in transformers',
  async (model) => {
    const { encoder, tokenizer } = await encoderOf(model);
    const ofModel: Case[] = cases.filter((item: Case) => item.model === model);
    expect(ofModel.length).toBe(model === 'deepseek-v3' ? 1 : 8);
    for (const { model: _, error, text, ids, trained, ...row } of ofModel) {
      if (error !== undefined) {
        expect(() => encoder.encode(row)).toThrow(error);
        continue;
      }
      const encoded = encoder.encode(row);
      expect(tokenizer.decode(encoded.ids), model).toContain(text.slice(-20));
      // A mark after an open last turn is ours.
      const ended = encoded.ids.length > ids.length ? [tokenizer.eosTokenId] : [];
      expect([...encoded.ids], text).toEqual([...ids, ...ended]);
      if (trained !== null) expect(runsOf(encoded.trained), text).toEqual(trained);
      expect(encoded.trained.includes(1)).toBe(true);
    }
  },
);

const call = (id: string, name: string, values: string) => ({
  id,
  type: 'function' as const,
  function: { name, arguments: values },
});
const TOOL = { type: 'function' as const, function: { name: 'look_up', parameters: { type: 'object' } } };
const CALLED = { role: 'assistant' as const, content: null, tool_calls: [call('a', 'look_up', '{"what": "x"}')] };
const ASKED = { role: 'user' as const, content: 'Look.' };

/** The text of the row; what is trained is in brackets. */
async function marked(row: MessagesRow, model = 'qwen2.5') {
  const { encoder, tokenizer } = await encoderOf(model);
  const { ids, trained } = encoder.encode(row);
  let text = '';
  let position = 0;
  for (const [start, end] of runsOf(trained)) {
    text += `${tokenizer.decode(ids.subarray(position, start))}[${tokenizer.decode(ids.subarray(start, end))}]`;
    position = end;
  }
  return text + tokenizer.decode(ids.subarray(position));
}

describe('weight', () => {
  it('0 leaves a message out of training, and in the text', async () => {
    const row: MessagesRow = {
      tools: [TOOL],
      messages: [
        ASKED,
        { ...CALLED, weight: 0 },
        { role: 'tool', tool_call_id: 'a', content: 'y' },
        { role: 'assistant', content: 'It is y.', weight: 1 },
      ],
    };
    const text = await marked(row);
    expect(text).toContain(
      '<|im_start|>assistant\n<tool_call>\n{"name": "look_up", "arguments": {"what": "x"}}\n</tool_call><|im_end|>',
    );
    expect(text).toMatch(/<\|im_start\|>assistant\n\[It is y\.<\|im_end\|>\n\]$/);
    const other = await marked({
      ...row,
      messages: row.messages.map((message) =>
        message.role === 'assistant' ? { ...message, weight: message.weight === 0 ? 1 : 0 } : message,
      ),
    });
    expect(other).toContain(
      '<|im_start|>assistant\n[<tool_call>\n{"name": "look_up", "arguments": {"what": "x"}}\n</tool_call><|im_end|>\n]',
    );
    expect(other).toMatch(/assistant\nIt is y\.<\|im_end\|>\n$/);
  });

  it('0 of the last message ends nothing', async () => {
    const text = await marked({
      messages: [ASKED, { role: 'assistant', content: 'a' }, ASKED, { role: 'assistant', content: 'b', weight: 0 }],
    });
    expect(text.match(/\[[^\]]*\]/g)).toEqual(['[a<|im_end|>\n]']);
  });
});

describe('a template without tools', () => {
  const refusal = async (row: MessagesRow, template: string) => {
    const { encoder } = await encoderWith(template, { eos_token: '<|im_end|>' });
    try {
      encoder.encode(row);
      return null;
    } catch (error) {
      const { code, param, message } = error as { code: string; param?: string; message: string };
      return { code, param, message };
    }
  };

  it('refuses them by name', async () => {
    const plain = { messages: [ASKED, { role: 'assistant' as const, content: 'No.' }] };
    expect(await refusal({ ...plain, tools: [TOOL] }, CHATML)).toMatchObject({
      code: 'chat_template_failed',
      param: 'tools',
      message: expect.stringContaining('writes no tools'),
    });
    expect(await refusal({ messages: [ASKED, CALLED] }, CHATML)).toMatchObject({
      code: 'chat_template_failed',
      param: 'messages.1.tool_calls',
      message: expect.stringContaining('writes no calls of tools'),
    });
    expect(await refusal({ ...plain, tools: [] }, CHATML)).toBeNull();
  });

  it('refuses the calls that a template leaves out beside a content', async () => {
    const { template, tokens } = models['qwen2.5'];
    const dropping = template.replace(
      '{%- for tool_call in message.tool_calls %}',
      '{%- for tool_call in ([] if message.content else message.tool_calls) %}',
    );
    const { encoder } = await encoderWith(dropping, tokens);
    expect(encoder.encode({ messages: [ASKED, CALLED] }).ids.length).toBeGreaterThan(10);
    expect(() => encoder.encode({ messages: [ASKED, { ...CALLED, content: 'Wait.' }] })).toThrow(
      expect.objectContaining({ code: 'chat_template_failed', param: 'messages.1.tool_calls.0' }),
    );
  });

  it('refuses an answer of a tool that a template leaves out', async () => {
    const { template, tokens } = models['qwen2.5'];
    const deaf = template.replace('{%- elif message.role == "tool" %}', '{%- elif message.role == "nobody" %}');
    const { encoder } = await encoderWith(deaf, tokens);
    const answer = { role: 'tool' as const, tool_call_id: 'a', content: 'forty-two' };
    const last = { role: 'assistant' as const, content: 'Done.' };
    expect(() => encoder.encode({ messages: [ASKED, CALLED, answer, last] })).toThrow(
      expect.objectContaining({ code: 'chat_template_failed', param: 'messages.2' }),
    );
  });
});

it('gives ids of nine characters to a template that takes no others', async () => {
  const { template, tokens } = models['qwen2.5'];
  const strict = template
    .replace(
      '{{- tool_call.arguments | tojson }}',
      "{{- tool_call.arguments | tojson }}{{- ', \"id\": \"' + ids.pop + '\"' if false else '' }}",
    )
    .replace(
      '{%- for tool_call in message.tool_calls %}',
      "{%- for tool_call in message.tool_calls %}{%- if tool_call.id | length != 9 %}{{ raise_exception('nine') }}{%- endif %}{{- '\\n#' + tool_call.id }}",
    )
    .replace(
      "{{- message.content }}\n        {{- '\\n</tool_response>' }}",
      "{{- '#' + message.tool_call_id + ' ' + message.content }}\n        {{- '\\n</tool_response>' }}",
    );
  const { encoder, tokenizer } = await encoderWith(strict, tokens);
  const row: MessagesRow = {
    messages: [
      ASKED,
      CALLED,
      { role: 'tool', tool_call_id: 'a', content: 'y' },
      { role: 'assistant', content: 'Done.' },
    ],
  };
  const text = tokenizer.decode(encoder.encode(row).ids);
  const [called, answered] = [/#([0-9a-z]{9})\n<tool_call>/.exec(text)?.[1], /#([0-9a-z]{9}) y/.exec(text)?.[1]];
  expect(called).toMatch(/^[0-9a-f]{9}$/);
  expect(answered).toBe(called);
});

it('the syntax of calls is found in templates that write JSON, and in no others', async () => {
  const found: Record<string, unknown> = {};
  for (const model of Object.keys(models)) {
    const folder = await tinyTokenizerFolder('qwen2', models[model].template);
    const syntax = (await loadChatTemplate(folder))!.callSyntax();
    found[model] = syntax === null ? null : [syntax.before, syntax.form];
  }
  const hermes = { kind: 'object', argumentsKey: 'arguments' };
  const llama = ['', { kind: 'object', argumentsKey: 'parameters' }];
  expect(found).toMatchObject({
    'qwen2.5': ['<tool_call>\n', hermes],
    qwen3: ['<think>\n\n</think>\n\n<tool_call>\n', hermes],
    'qwen3-instruct-2507': ['<tool_call>\n', hermes],
    'llama-3.1': llama,
    'llama-3.2': llama,
    lfm2: null,
    'glm-4.5': null,
    'deepseek-v3': null,
  });
});
