import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadChatTemplate, loadTokenizer } from '@lorasmith/model-folder';
import { expect, it } from 'vitest';
import { RowEncoder } from '../src/objectives/next-token/encode-row.js';
import { tinyTokenizerFolder } from './tiny-model.js';

// Made by fixtures/conversations/make.py with transformers.
const path = join(import.meta.dirname, 'fixtures/conversations/cases.json');
const { models, cases } = JSON.parse(await readFile(path, 'utf8'));

const NOW = new Date('2026-07-05T12:00:00');

/** Templates that write no mark behind the last turn. */
const OPEN = ['mark only between turns', 'glm', 'glm4'];

async function encoderOf(model: string) {
  const { template, tokens, added } = models[model];
  const folder = await tinyTokenizerFolder('qwen2', template);
  const file = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
  for (const [content, id] of Object.entries(added)) file.added_tokens.push({ id, content, special: true });
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(file));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokens));
  const tokenizer = await loadTokenizer(folder);
  const endTokenIds = [tokenizer.eosTokenId!];
  return {
    tokenizer,
    encoder: new RowEncoder({ tokenizer, template: await loadChatTemplate(folder, { now: NOW }), endTokenIds }),
  };
}

it.each(Object.keys(models))(
  '%s: the tokens of conversations and which are trained, as in transformers',
  async (model) => {
    const { encoder, tokenizer } = await encoderOf(model);
    const ofModel = cases.filter((item: { model: string }) => item.model === model);
    expect(ofModel.length).toBeGreaterThan(4);
    for (const { messages, text, ids, trained } of ofModel) {
      const row = encoder.encode({ messages });
      // The mark after an open last turn is ours.
      const isOpen = OPEN.includes(model) && trained.at(-1) === 1;
      const end = isOpen ? [tokenizer.eosTokenId] : [];
      expect([...row.ids], text).toEqual([...ids, ...end]);
      expect([...row.trained], text).toEqual([...trained, ...end.map(() => 1)]);
    }
  },
);
