import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DatasetRowView, MessagesRow, UploadedDataset } from '@lorasmith/contracts';
import {
  type ChatTemplate,
  loadChatTemplate,
  loadTokenizer,
  type ModelFolder,
  ModelTexts,
  type Tokenizer,
} from '@lorasmith/model-folder';
import { describe, expect, it } from 'vitest';
import { RowEncoder } from '../src/objectives/next-token/encode-row.js';
import { viewRows } from '../src/view-rows.js';
import { tinyDecoder } from './tiny-model.js';

// Made by fixtures/trl-masks/make.py with TRL and transformers.
const path = join(import.meta.dirname, 'fixtures/trl-masks/cases.json');
const { models, cases }: Fixture = JSON.parse(await readFile(path, 'utf8'));

interface Fixture {
  models: Record<string, { template: string; tokens: object; added: Record<string, number> }>;
  cases: Case[];
}

interface Case extends MessagesRow {
  model: string;
  title: string;
  text: string;
  ids: number[];
  trained: number[];
  error?: string;
}

/** The day that templates print. */
const NOW = new Date('2026-07-05T12:00:00');

/** A model with the tokens that its template has. */
async function modelOf(name: string): Promise<ModelFolder> {
  const { template, tokens, added } = models[name]!;
  const model = await tinyDecoder('qwen2', template, { vocabSize: 2048, maxPositions: 4096 });
  const file = JSON.parse(await readFile(join(model.path, 'tokenizer.json'), 'utf8'));
  const known = new Set(file.added_tokens.map(({ content }: { content: string }) => content));
  for (const [content, id] of Object.entries(added)) {
    if (!known.has(content)) file.added_tokens.push({ id, content, special: true });
  }
  await writeFile(join(model.path, 'tokenizer.json'), JSON.stringify(file));
  await writeFile(join(model.path, 'tokenizer_config.json'), JSON.stringify(tokens));
  return model;
}

/** The first token is never trained: nothing predicts it. */
const targets = (trained: Iterable<number>) => [...trained].slice(1);
const rowOf = ({ messages, tools }: Case): MessagesRow => ({ messages, ...(tools === undefined ? {} : { tools }) });

/** Rows as `GET /datasets/:id/rows` shows them. */
async function shown(model: ModelFolder, rows: readonly MessagesRow[]): Promise<DatasetRowView[]> {
  const content = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  const rowsFile = join(model.path, 'data.jsonl');
  await writeFile(rowsFile, content);
  const dataset = { format: 'messages', rows: rows.length, created_at: NOW.toISOString() } as UploadedDataset;
  const settings = { max_seq_length: 4096, on_overflow: 'error', completion_format: 'chat' } as const;
  const encoding = { model, texts: new ModelTexts(), settings };
  const data: DatasetRowView[] = [];
  for (let more = true; more; ) {
    const page = await viewRows({ dataset, rowsFile, after: data.at(-1)?.line ?? 0, limit: 100, encoding });
    data.push(...page.data);
    more = page.has_more;
  }
  return data;
}

describe.each(Object.keys(models))('the template %s of TRL', (name) => {
  const ofModel = cases.filter(({ model }) => model === name);

  it('trains the tokens that TRL trains, with and without reasoning and tools, as the rows are shown', async () => {
    const rows = await shown(await modelOf(name), ofModel.map(rowOf));
    expect(rows).toHaveLength(ofModel.length);
    for (const [index, { title, ids, trained, error }] of ofModel.entries()) {
      const { faults, tokens } = rows[index]!;
      if (error !== undefined) {
        expect(faults, title).toMatchObject([{ code: 'chat_template_failed' }]);
        continue;
      }
      expect(faults, title).toEqual([]);
      expect(
        tokens!.data.map(({ id }) => id),
        title,
      ).toEqual(ids);
      expect(targets(tokens!.data.map((token) => Number(token.trained))), title).toEqual(targets(trained));
    }
  });

  it('trains the same without its marks, but not the prompt that a turn is asked for with', async () => {
    const { path } = await modelOf(name);
    const tokenizer = await loadTokenizer(path);
    const loaded = (await loadChatTemplate(path, { now: NOW }))!;
    const template: ChatTemplate = {
      render: (messages, options) => loaded.render(messages, options),
      renderMarked: () => null,
      callSyntax: () => loaded.callSyntax(),
    };
    const encoder = new RowEncoder({ tokenizer, template, endTokenIds: [tokenizer.eosTokenId!] });
    for (const item of ofModel.filter(({ error }) => error === undefined)) {
      const { title, ids, trained } = item;
      const act = () => marked(tokenizer, encoder.encode(rowOf(item)));
      if (NOT_LOCATED[name] === title) expect(act).toThrow(/cannot be located/);
      else expect(act(), title).toBe(withoutPrompts(name, marked(tokenizer, { ids: Int32Array.from(ids), trained })));
    }
  });
});

/** The conversations that are refused without marks: turns that the template joins, and one whose text a user's message would change. */
const NOT_LOCATED: Readonly<Record<string, string>> = {
  diffusion_gemma: 'two turns of the assistant',
  'gemma4_v5, as served': 'two turns of the assistant',
  'qwen3, as served': 'the assistant alone',
};

/** The text with what is trained in brackets. */
function marked(tokenizer: Tokenizer, { ids, trained }: { ids: Int32Array; trained: ArrayLike<number> }): string {
  let text = '';
  const isTrained = (index: number) => index > 0 && trained[index] === 1;
  for (let start = 0, end = 0; start < ids.length; start = end) {
    while (end < ids.length && isTrained(end) === isTrained(start)) end++;
    const part = tokenizer.decode(ids.subarray(start, end));
    text += isTrained(start) ? `⟦${part}⟧` : part;
  }
  return text;
}

/** The texts that TRL marks of a turn, although the model's prompt for the turn (`add_generation_prompt`) ends with it. */
const TRAINED_PROMPTS: [models: RegExp, prompt: RegExp][] = [
  [/^deepseek/, /<｜Assistant｜>(<think>\n)?/g],
  // But not that of an answer after the reasoning of the same turn, which the model writes.
  [/^gptoss/, /(?<!<\|channel\|>analysis<\|message\|>[^<]*<\|end\|>)<\|start\|>assistant/g],
  [/^muse/, /(?<! to=self<\|message\|>[^<]*<\|eom\|>)<\|start\|>assistant/g],
  [/^nemotron/, /(?<=⟦)<think>\n?/g],
  [/^qwen2_5$/, /(?<=⟦)\n/g],
  [/^qwen3_5_nothink/, /(?<=⟦)<think>\n(\n<\/think>\n\n)?/g],
  [/^qwen3_(5_think|6|8)/, /(?<=⟦)<think>\n/g],
];

function withoutPrompts(name: string, text: string): string {
  // TRL leaves the space out that this template writes after the end of a turn; other templates' newline is trained by both.
  if (name === 'llava_next') return text.replaceAll('⟧ ', ' ⟧').replaceAll('⟧⟦', '');
  if (name.includes('gemma4') || name === 'diffusion_gemma') return withoutToolPrompts(text);
  const prompt = TRAINED_PROMPTS.find(([models]) => models.test(name))?.[1];
  return prompt === undefined ? text : text.replaceAll(prompt, '⟧$&⟦').replaceAll('⟦⟧', '');
}

/**
 * The text of a template that asks for no turn after the answer of a tool: a model writes the header, if there is one, and the mark
 * after a call.
 */
function withoutToolPrompts(text: string): string {
  return text
    .replaceAll('<tool_call|>⟧<|tool_response>', '<tool_call|><|tool_response>⟧')
    .replaceAll('<tool_response|><|turn>model\n⟦', '<tool_response|>⟦<|turn>model\n');
}
