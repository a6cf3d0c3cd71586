import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { digestTokenizer } from './tokenizer-files.js';

test('changes with every file that affects tokens, and with no other', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tokenizer-digest-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const seen: string[] = [await digestTokenizer(folder)];
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja']) {
    await writeFile(join(folder, file), 'a');
    seen.push(await digestTokenizer(folder));
    await writeFile(join(folder, file), 'b');
    seen.push(await digestTokenizer(folder));
  }
  expect(new Set(seen).size).toBe(9);
  await writeFile(join(folder, 'config.json'), '{}');
  expect(await digestTokenizer(folder)).toBe(seen.at(-1));
});

test('names a file that cannot be read', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tokenizer-digest-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, 'tokenizer.json'));
  await expect(digestTokenizer(folder)).rejects.toMatchObject({
    code: 'model_file_corrupt',
    message: expect.stringContaining('tokenizer.json'),
  });
});
