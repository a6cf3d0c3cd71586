import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JobSpec, type Message, type UploadedDataset } from '@lorasmith/contracts';
import {
  type ChatTemplate,
  loadChatTemplate,
  loadTokenizer,
  readModelFolder,
  type Tokenizer,
} from '@lorasmith/model-folder';
import { Value } from 'typebox/value';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { openExampleStore } from '../src/example-file/example-store.js';
import { RowEncoder } from '../src/objectives/next-token/encode-row.js';
import type { TokenExamples } from '../src/objectives/next-token/token-examples.js';
import { planJob } from '../src/plan-job.js';

const root = join(import.meta.dirname, '../../..');
const folder = join(process.env.MODELS_DIR ?? join(root, 'models'), 'SmolLM2-135M-Instruct');

interface Expected {
  tokenizer: { text: string; input_ids: number[] }[];
  rows: { messages: Message[]; input_ids: number[]; prompt_tokens: number; completion_tokens: number }[];
}

/** The demo model as set-up makes it, against what transformers made of the same GGUF. */
describe('SmolLM2-135M-Instruct', () => {
  let expected: Expected;
  let tokenizer: Tokenizer;
  let template: ChatTemplate;
  beforeAll(async () => {
    const reference = join(root, 'test/fixtures/reference/smollm2/expected.json');
    expected = JSON.parse(await readFile(reference, 'utf8'));
    tokenizer = await loadTokenizer(folder);
    template = (await loadChatTemplate(folder))!;
  });

  it('tokenizes texts id for id, and writes them back', () => {
    expect(expected.tokenizer).toHaveLength(8);
    for (const { text, input_ids } of expected.tokenizer) {
      expect([...tokenizer.encode(text)], text).toEqual(input_ids);
      expect(tokenizer.decode(input_ids)).toBe(text);
    }
    expect(tokenizer).toMatchObject({ bosTokenId: 1, eosTokenId: 2, padTokenId: 2, vocabSize: 49152 });
  });

  it('tokenizes conversations id for id, and trains just the answer', () => {
    const encoder = new RowEncoder({ tokenizer, template, endTokenIds: [2] });
    expect(expected.rows).toHaveLength(8);
    for (const { messages, input_ids, prompt_tokens, completion_tokens } of expected.rows) {
      const { ids, trained } = encoder.encode({ messages });
      expect([...ids]).toEqual(input_ids);
      expect(trained.indexOf(1)).toBe(prompt_tokens);
      expect(trained.subarray(prompt_tokens).every((flag) => flag === 1)).toBe(true);
      expect(ids.length - prompt_tokens).toBe(completion_tokens);
    }
  });

  it('trains the turns of a conversation that begins with the assistant, not the system message that the template adds', () => {
    const encoder = new RowEncoder({ tokenizer, template, endTokenIds: [2] });
    const messages: Message[] = [
      { role: 'assistant', content: 'Hello' },
      { role: 'user', content: 'Who are you?' },
      { role: 'assistant', content: 'A model.' },
    ];
    const { ids, trained } = encoder.encode({ messages });
    const textOf = (kept: number) => tokenizer.decode(ids.filter((_, index) => trained[index] === kept));
    const [before, asked] = ['<|im_start|>system\nYou are', '<|im_start|>user\nWho are you?<|im_end|>\n'];
    expect(textOf(1)).toBe('Hello<|im_end|>\nA model.<|im_end|>\n');
    expect(textOf(0).startsWith(before)).toBe(true);
    expect(textOf(0).endsWith(`<|im_start|>assistant\n${asked}<|im_start|>assistant\n`)).toBe(true);
  });

  it('is planned completely', async () => {
    const temporary = await mkdtemp(join(tmpdir(), 'smollm2-'));
    onTestFinished(() => rm(temporary, { recursive: true }));
    const rowsFile = join(temporary, 'data.jsonl');
    const content = expected.rows.map(({ messages }) => JSON.stringify({ messages })).join('\n');
    await writeFile(rowsFile, content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    const dataset = { id: `ds_${sha256.slice(0, 24)}`, format: 'messages', rows: 8, sha256 } as UploadedDataset;
    const spec = Value.Default(JobSpec, {
      validation: {},
      lora: { target_modules: ['q_proj', 'v_proj'] },
      training: {},
    }) as JobSpec;
    const examples = await openExampleStore({ dataDir: temporary, maxBytes: 2 ** 30 });
    const plan = await planJob({ spec, model: await readModelFolder(folder), dataset, rowsFile, examples });
    onTestFinished(() => plan.close());
    const { report } = plan;
    const training = plan.training as TokenExamples;
    expect(expected.rows.map((_, number) => [...training.sequence(number).ids])).toEqual(
      expected.rows.map(({ input_ids }) => input_ids),
    );
    // r = 8 on q (576 to 576) and v (576 to 192) of 30 layers.
    const trained = 30 * 8 * (576 + 576 + 576 + 192);
    expect(report.parameters).toMatchObject({ trained, total: 134_515_008 + trained });
    expect(report.tokens.trained_per_epoch).toBe(
      expected.rows.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0),
    );
  });
});
