import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelWeights } from '@lorasmith/model-folder';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { importGguf } from './import-gguf.js';

const fixtures = new URL('./fixtures/', import.meta.url).pathname;
const file = join(fixtures, 'tiny-llama.gguf');
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'import-gguf-'));
});
afterAll(() => rm(root, { recursive: true }));

const modelsFolder = () => mkdtemp(join(root, 'models-'));
const readJson = async (...path: string[]) => JSON.parse(await readFile(join(...path), 'utf8'));

/** The fixture with a string replaced by another of the same length. */
async function altered(from: string, to: string): Promise<string> {
  expect(to.length).toBe(from.length);
  const bytes = await readFile(file);
  const at = bytes.indexOf(from);
  expect(at).toBeGreaterThan(0);
  bytes.write(to, at);
  const path = join(await mkdtemp(join(root, 'altered-')), 'altered.gguf');
  await writeFile(path, bytes);
  return path;
}

describe('a llama of gguf-py', () => {
  let modelsDir: string;
  const progress: number[] = [];
  beforeAll(async () => {
    modelsDir = await modelsFolder();
    await importGguf({ file, name: 'Tiny', modelsDir, onProgress: ({ done }) => progress.push(done) });
  });

  test('has the weights of gguf-py, unpermuted and rounded, bit for bit', async () => {
    const folder = await importGguf({ file, name: 'Again', modelsDir: await modelsFolder() });
    const expected = await readJson(fixtures, 'tiny-llama.json');
    const weights = await openModelWeights(folder);
    const found: Record<string, unknown> = {};
    for (const name of [...folder.tensors.keys()].sort()) {
      const { shape, dtype } = weights.entry(name);
      expect(dtype).toBe('BF16');
      found[name] = {
        shape,
        sha256: createHash('sha256')
          .update(await weights.read(name))
          .digest('hex'),
      };
    }
    await weights.close();
    expect(found).toEqual(expected);
  });

  test('has the config of its metadata, with the inferred RoPE scaling', async () => {
    expect(await readJson(modelsDir, 'Tiny', 'config.json')).toMatchObject({
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      hidden_size: 256,
      intermediate_size: 256,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 64,
      max_position_embeddings: 512,
      rope_theta: 500_000,
      rope_parameters: {
        rope_theta: 500_000,
        rope_type: 'llama3',
        factor: 32,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
      tie_word_embeddings: true,
      vocab_size: 103,
      dtype: 'bfloat16',
    });
    expect(await readJson(modelsDir, 'Tiny', 'generation_config.json')).toMatchObject({ eos_token_id: [0, 1] });
  });

  test('has the tokenizer of its metadata', async () => {
    const tokenizer = await readJson(modelsDir, 'Tiny', 'tokenizer.json');
    expect(
      tokenizer.added_tokens.map(({ content, special }: { content: string; special: boolean }) => [content, special]),
    ).toEqual([
      ['<|end|>', true],
      ['<|user|>', true],
      ['<tool>', false],
    ]);
    expect(tokenizer.model.ignore_merges).toBe(true);
    expect(tokenizer.model.merges).toEqual(['t h', 'th e', 'Ġ the', 'Ġ a']);
    expect(tokenizer.pre_tokenizer.pretokenizers[0].pattern.Regex).toContain('\\p{N}{1,3}');
    // llama-bpe adds BOS by default.
    expect(tokenizer.post_processor.processors[1].single[0]).toEqual({ SpecialToken: { id: '<|user|>', type_id: 0 } });
    const config = await readJson(modelsDir, 'Tiny', 'tokenizer_config.json');
    expect(config).toMatchObject({ bos_token: '<|user|>', eos_token: '<|end|>', pad_token: '<|end|>' });
    const template = await readFile(join(modelsDir, 'Tiny', 'chat_template.jinja'), 'utf8');
    expect(template).toBe('{% for m in messages %}{{ m.content }}{% endfor %}');
    expect(config.chat_template).toBe(template);
  });

  test('reports progress per tensor, and leaves no temporary folder', async () => {
    expect(progress).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(await readdir(modelsDir)).toEqual(['Tiny']);
  });

  test('is not overwritten', async () => {
    await expect(importGguf({ file, name: 'Tiny', modelsDir })).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('an unsupported file is rejected by name, and no files remain:', () => {
  test.each<[string, string, string, string, RegExp]>([
    ['architecture', 'llama', 'gemma', 'model_not_supported', /general\.architecture "gemma"/],
    ['tokenizer', 'gpt2', 'bert', 'model_not_supported', /tokenizer\.ggml\.model "bert"/],
    ['pre-tokenizer', 'llama-bpe', 'llama-xyz', 'model_not_supported', /tokenizer\.ggml\.pre "llama-xyz"/],
    [
      'key of the architecture',
      'llama.context_length',
      'llama.context_lengtX',
      'model_not_supported',
      /context_lengtX/,
    ],
    ['tensor', 'blk.1.ffn_up.weight', 'blk.1.ffn_xx.weight', 'model_not_supported', /blk\.1\.ffn_xx\.weight/],
    [
      'tensor of a layer beyond the last',
      'blk.1.ffn_up.weight',
      'blk.2.ffn_up.weight',
      'model_not_supported',
      /blk\.2\.ffn_up/,
    ],
    ['merge of unknown tokens', 't h', 't \x01', 'model_file_corrupt', /tokenizer\.ggml\.merges entry 0/],
  ])('%s', async (_, from, to, code, message) => {
    const modelsDir = await modelsFolder();
    const attempt = importGguf({ file: await altered(from, to), name: 'Bad', modelsDir });
    await expect(attempt).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(await readdir(modelsDir)).toEqual([]);
  });

  test('a name that is a path', async () => {
    const modelsDir = await modelsFolder();
    for (const name of ['../x', 'a/b', '.hidden', '', '%2e%2e']) {
      await expect(importGguf({ file, name, modelsDir })).rejects.toMatchObject({ code: 'invalid_request' });
    }
  });

  test('a missing file, a folder, and a truncated file', async () => {
    const modelsDir = await modelsFolder();
    const attempt = (path: string) => importGguf({ file: path, name: 'Bad', modelsDir });
    await expect(attempt(join(root, 'none.gguf'))).rejects.toMatchObject({ code: 'model_file_missing' });
    await expect(attempt(root)).rejects.toMatchObject({ code: 'model_file_corrupt' });
    const cut = join(root, 'cut.gguf');
    await cp(file, cut);
    for (const length of [600_000, 5_000, 3]) {
      await truncate(cut, length);
      await expect(attempt(cut)).rejects.toMatchObject({ code: 'model_file_corrupt' });
    }
    expect(await readdir(modelsDir)).toEqual([]);
  });
});

test('after an aborted import, no files remain', async () => {
  const modelsDir = await modelsFolder();
  const stop = new AbortController();
  const onProgress = ({ done }: { done: number }) => done === 3 && stop.abort(new Error('stopped'));
  const attempt = importGguf({ file, name: 'Stopped', modelsDir, signal: stop.signal, onProgress });
  await expect(attempt).rejects.toThrow('stopped');
  expect(await readdir(modelsDir)).toEqual([]);
});

test('removes the temporary folder of a crashed import after a day, but not a recent one', async () => {
  const modelsDir = await modelsFolder();
  await mkdir(join(modelsDir, '.import-old'));
  await mkdir(join(modelsDir, '.import-new'));
  const twoDaysAgo = new Date(Date.now() - 2 * 24 * 60 * 60 * 1000);
  await utimes(join(modelsDir, '.import-old'), twoDaysAgo, twoDaysAgo);
  await importGguf({ file, name: 'Tiny', modelsDir });
  expect((await readdir(modelsDir)).sort()).toEqual(['.import-new', 'Tiny']);
});
