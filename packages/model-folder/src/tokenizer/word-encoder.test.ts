import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { loadTokenizer } from './tokenizer.js';

const fixture = (name: string) => join(import.meta.dirname, '../fixtures/tokenizers', name);
test.each(['smollm', 'qwen2', 'llama3'])('%s: cached and uncached words have the same tokens', async (name) => {
  const folder = await mkdtemp(join(tmpdir(), 'word-cache-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(fixture(name), folder, { recursive: true });
  const file = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
  const cached = await loadTokenizer(folder);
  // The same tokenizer without a cache. fuse_unk has no effect, since a byte-level model has no unknown tokens.
  await writeFile(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ ...file, model: { ...file.model, fuse_unk: true } }),
  );
  const plain = await loadTokenizer(folder);
  const words = Array.from({ length: 1000 }, (_, i) => `word${i} Ünïcode${i % 50} ${'x'.repeat(i % 90)} 漢字${i}🙂\n`);
  for (const text of [words.join(' '), words.slice(0, 20).join(''), words.join('')]) {
    expect(cached.encode(text)).toEqual(plain.encode(text));
    expect(cached.decode(cached.encode(text))).toBe(text);
  }
});

test('a merge that joins a space to what is before it is applied', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'word-encoder-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const vocab = { a: 0, b: 1, '▁': 2, 'a▁': 3, '▁b': 4 };
  const pre_tokenizer = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: false };
  const idsWith = async (merges: string[][]) => {
    const model = { type: 'BPE', vocab, merges };
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ model, pre_tokenizer }));
    return [...(await loadTokenizer(folder)).encode('a b a')];
  };
  expect(await idsWith([['▁', 'b']])).toEqual([0, 4, 2, 0]);
  expect(
    await idsWith([
      ['a', '▁'],
      ['▁', 'b'],
    ]),
  ).toEqual([3, 1, 2, 0]);
});

// Made by fixtures/tokenizers/make-added.py with the Rust crate.
const { files, cases } = JSON.parse(
  await readFile(join(import.meta.dirname, '../fixtures/tokenizers/added-tokens.json'), 'utf8'),
);

test.each(Object.keys(files))('%s: as in the Rust crate', async (name) => {
  const folder = await mkdtemp(join(tmpdir(), 'added-tokens-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(files[name]));
  const tokenizer = await loadTokenizer(folder);
  for (const { text, ids } of cases.filter((item: { name: string }) => item.name === name)) {
    expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(ids);
    expect([...tokenizer.encodeWithSpecialTokens(text)], JSON.stringify(text)).toEqual(ids);
  }
});
