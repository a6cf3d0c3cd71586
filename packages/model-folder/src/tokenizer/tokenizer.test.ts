import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadChatTemplate } from '../template/chat-template.js';
import { loadTokenizer } from './tokenizer.js';

interface Expected {
  ids: number[];
  ids_with_special: number[];
  decoded: string;
  decoded_without_special: string;
}

const fixtures = join(import.meta.dirname, '../fixtures/tokenizers');
const readJson = async (path: string) => JSON.parse(await readFile(path, 'utf8'));

describe('compared with the Rust crate tokenizers', () => {
  it.each(['llama3', 'qwen2', 'smollm', 'llama2-legacy', 'llama2-metaspace', 'gemma'])(
    '%s: the same ids',
    async (name) => {
      const texts: string[] = await readJson(join(fixtures, 'texts.json'));
      const expected: Expected[] = await readJson(join(fixtures, name, 'expected.json'));
      const tokenizer = await loadTokenizer(join(fixtures, name));
      expect(texts.length).toBeGreaterThan(200);
      for (const [index, text] of texts.entries()) {
        const { ids, ids_with_special, decoded, decoded_without_special } = expected[index]!;
        expect([...tokenizer.encode(text)], text).toEqual(ids);
        expect([...tokenizer.encodeWithSpecialTokens(text)], text).toEqual(ids_with_special);
        expect(tokenizer.decode(ids)).toBe(decoded);
        expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded_without_special);
      }
    },
  );
});

describe('loadTokenizer', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
    await cp(join(fixtures, 'llama3'), folder, { recursive: true });
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function change(edit: (file: Record<string, never>) => void) {
    const file = await readJson(join(folder, 'tokenizer.json'));
    edit(file);
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(file));
  }

  it('reports its special tokens and vocabulary size', async () => {
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer).toMatchObject({ bosTokenId: 0, eosTokenId: 4, padTokenId: null, vocabSize: 420 });
    expect(tokenizer.specialTokens.get(4)).toBe('<|eot_id|>');
    expect(tokenizer.specialTokens.size).toBe(5);
    expect(tokenizer.decode([])).toBe('');
  });

  it('works without tokenizer_config.json, and reads tokens that are objects', async () => {
    await writeFile(join(folder, 'tokenizer_config.json'), '{"eos_token": {"content": "<|eot_id|>"}}');
    expect(await loadTokenizer(folder)).toMatchObject({ bosTokenId: null, eosTokenId: 4 });
    await rm(join(folder, 'tokenizer_config.json'));
    expect(await loadTokenizer(folder)).toMatchObject({ bosTokenId: null, eosTokenId: null });
  });

  it('reads named tokens from special_tokens_map.json as transformers does', async () => {
    const { template, cases } = await readJson(join(fixtures, '../special-tokens-map/cases.json'));
    await writeFile(join(folder, 'chat_template.jinja'), template);
    expect(cases.length).toBe(5);
    for (const { name, config, map, ids, text } of cases) {
      await rm(join(folder, 'tokenizer_config.json'), { force: true });
      if (config !== null) await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
      await writeFile(join(folder, 'special_tokens_map.json'), JSON.stringify(map));
      const { bosTokenId, eosTokenId, padTokenId } = await loadTokenizer(folder);
      expect([bosTokenId, eosTokenId, padTokenId], name).toEqual(ids);
      const rendered = (await loadChatTemplate(folder))?.render([], { addGenerationPrompt: false });
      expect(rendered, name).toBe(text);
    }
  });

  it('names a missing file', async () => {
    await rm(join(folder, 'tokenizer.json'));
    await expect(loadTokenizer(folder)).rejects.toMatchObject({
      code: 'model_file_missing',
      message: expect.stringContaining('tokenizer.json'),
    });
  });

  it.each([
    ['invalid JSON', '{"model":'],
    ['a list instead of an object', '[]'],
    ['no model', '{}'],
    ['no vocabulary', '{"model": {"type": "BPE", "merges": []}}'],
    ['an id that is not a number', '{"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}'],
    ['an id above the limit', '{"model": {"type": "BPE", "vocab": {"a": 4294967296}, "merges": []}}'],
    ['merges that are not pairs', '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [7]}}'],
    ['an added token without id', '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{}]}'],
    [
      'an unknown pre-tokenizer',
      '{"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": {"type": "X"}}',
    ],
  ])('reports model_file_corrupt for a tokenizer.json with %s', async (_, text) => {
    await writeFile(join(folder, 'tokenizer.json'), text);
    await expect(loadTokenizer(folder)).rejects.toMatchObject({
      code: 'model_file_corrupt',
      message: expect.stringContaining('tokenizer.json'),
    });
  });

  it.each([
    ['another model', { model: { type: 'Unigram', vocab: [['a', 0]] } }, 'Unigram'],
    [
      'a split that the library handles incorrectly',
      { pre_tokenizer: { type: 'Split', pattern: { String: 'a' }, behavior: 'MergedWithNext' } },
      'MergedWithNext',
    ],
    [
      'words that end with a pattern',
      { pre_tokenizer: { type: 'Split', pattern: { Regex: 'a+' }, behavior: 'MergedWithPrevious' } },
      'MergedWithPrevious',
    ],
    ['whole-word tokens', { added_tokens: [{ id: 0, content: 'a', single_word: true }] }, 'single_word'],
  ])('reports model_not_supported for %s, by name', async (_, part, name) => {
    await change((file) => Object.assign(file, part));
    await expect(loadTokenizer(folder)).rejects.toMatchObject({
      code: 'model_not_supported',
      message: expect.stringContaining(name),
    });
  });

  it('splits behind a character as the crate does: the first of several in a row ends a word', async () => {
    const vocab = { a: 0, b: 1, '-': 2, 'a-': 3, '--': 4, '-b': 5 };
    const merges = [
      ['-', '-'],
      ['a', '-'],
      ['-', 'b'],
    ];
    const pre_tokenizer = { type: 'Split', pattern: { String: '-' }, behavior: 'MergedWithPrevious', invert: false };
    await writeFile(
      join(folder, 'tokenizer.json'),
      JSON.stringify({ model: { type: 'BPE', vocab, merges }, pre_tokenizer }),
    );
    const tokenizer = await loadTokenizer(folder);
    expect([...tokenizer.encode('a--b')]).toEqual([3, 2, 1]);
    expect([...tokenizer.encode('--a-b--')]).toEqual([2, 2, 3, 1, 2, 2]);
  });

  it('does not encode a missing token as token 0', async () => {
    await writeFile(
      join(folder, 'tokenizer.json'),
      JSON.stringify({
        model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
        post_processor: {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: '<s>' } }, { Sequence: { id: 'A' } }],
        },
      }),
    );
    const tokenizer = await loadTokenizer(folder);
    expect([...tokenizer.encode('a')]).toEqual([0]);
    expect(() => tokenizer.encodeWithSpecialTokens('a')).toThrow(/lacks a token/);
  });
});
