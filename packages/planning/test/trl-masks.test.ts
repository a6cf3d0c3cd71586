import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ChatTemplate, loadChatTemplate, loadTokenizer, type Tokenizer } from '@lorasmith/model-folder';
import { describe, expect, it } from 'vitest';
import { RowEncoder } from '../src/objectives/next-token/encode-row.js';
import { tinyTokenizerFolder } from './tiny-model.js';

// Made by fixtures/trl-masks/make.py with TRL and transformers.
const path = join(import.meta.dirname, 'fixtures/trl-masks/cases.json');
const { models, cases }: Fixture = JSON.parse(await readFile(path, 'utf8'));

interface Fixture {
  models: Record<string, { template: string; tokens: object; added: Record<string, number> }>;
  cases: Case[];
}

interface Case {
  model: string;
  title: string;
  messages: { role: 'system' | 'user' | 'assistant'; content: string }[];
  text: string;
  ids: number[];
  trained: number[];
  error?: string;
}

const NOW = new Date('2026-07-05T12:00:00');

async function encoderOf(model: string, change: (template: ChatTemplate) => ChatTemplate = (template) => template) {
  const { template, tokens, added } = models[model]!;
  const folder = await tinyTokenizerFolder('qwen2', template);
  const file = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
  const known = new Set(file.added_tokens.map(({ content }: { content: string }) => content));
  for (const [content, id] of Object.entries(added)) {
    if (!known.has(content)) file.added_tokens.push({ id, content, special: true });
  }
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(file));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokens));
  const tokenizer = await loadTokenizer(folder);
  const chat = (await loadChatTemplate(folder, { now: NOW }))!;
  return {
    tokenizer,
    encoder: new RowEncoder({ tokenizer, template: change(chat), endTokenIds: [tokenizer.eosTokenId!] }),
  };
}

const rendered = cases.filter(({ error }) => error === undefined);
const refused = cases.filter(({ error }) => error !== undefined);
/** The first token is never trained: nothing predicts it. */
const targets = (trained: Iterable<number>) => [...trained].slice(1);

describe.each(Object.keys(models))('the training template %s of TRL', (name) => {
  it('trains the tokens that TRL trains', async () => {
    const { encoder } = await encoderOf(name);
    for (const { title, messages, ids, trained } of rendered.filter(({ model }) => model === name)) {
      const row = encoder.encode({ messages });
      expect([...row.ids], title).toEqual(ids);
      expect(targets(row.trained), title).toEqual(targets(trained));
    }
    for (const { title, messages } of refused.filter(({ model }) => model === name)) {
      expect(() => encoder.encode({ messages }), title).toThrow(/chat template/);
    }
  });

  it('trains the same without its marks, but not the prompt that a turn is asked for with', async () => {
    const { encoder, tokenizer } = await encoderOf(name, (template) => ({ ...template, renderMarked: () => null }));
    for (const { title, messages, ids, trained } of rendered.filter(({ model }) => model === name)) {
      const act = () => marked(tokenizer, encoder.encode({ messages }));
      if (name === 'diffusion_gemma' && title === 'two turns of the assistant')
        expect(act).toThrow(/cannot be located/);
      else expect(act(), title).toBe(withoutPrompts(name, marked(tokenizer, { ids: Int32Array.from(ids), trained })));
    }
  });
});

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
  [/^gptoss|^muse/, /<\|start\|>assistant/g],
  [/^nemotron/, /(?<=⟦)<think>\n?/g],
  [/^qwen2_5$/, /(?<=⟦)\n/g],
  [/^qwen3_5_nothink/, /(?<=⟦)<think>\n(\n<\/think>\n\n)?/g],
  [/^qwen3_(5_think|6|8)/, /(?<=⟦)<think>\n/g],
];

function withoutPrompts(name: string, text: string): string {
  // TRL leaves the space out that this template writes after the end of a turn; other templates' newline is trained by both.
  if (name === 'llava_next') return text.replaceAll('⟧ ', ' ⟧').replaceAll('⟧⟦', '');
  const prompt = TRAINED_PROMPTS.find(([models]) => models.test(name))?.[1];
  return prompt === undefined ? text : text.replaceAll(prompt, '⟧$&⟦').replaceAll('⟦⟧', '');
}
