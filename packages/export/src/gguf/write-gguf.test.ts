import { createHash } from 'node:crypto';
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Architecture,
  type DecoderArchitecture,
  type LatentAttention,
  type LayerSettings,
  type Mixer,
  type ModelFolder,
  mixersOf,
  QuantizedOnLoad,
  type RopeScaling,
  readModelFolder,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { ofExpert, type PeftAdapter, type PeftModule, readPeftFolder } from '@lorasmith/peft-files';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type GgufValue, readGguf } from '../../../../scripts/setup/gguf.mjs';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { eachByItself, SMALL_MIXTURE, writeRandomModel } from '../../../../test/random-model.js';
import { oneOfEachStructure } from '../../../../test/usual-cases.js';
import { mergeModel } from '../merging/merge-model.js';
import { architectureMetadata } from './architecture-metadata.js';
import { GGUF_TYPES, type GgufType } from './gguf-file.js';
import { safeName, tokenizerMetadata } from './tokenizer-metadata.js';
import { writeGgufAdapter } from './write-gguf-adapter.js';
import { writeGgufModel } from './write-gguf-model.js';

interface Converted {
  metadata: Record<string, [type: string, value: unknown]>;
  tensors: Record<string, [type: string, shape: number[], sha256: string]>;
}

const fixtures = new URL('../fixtures/converted/', import.meta.url).pathname;
const cases = new URL('../../../../test/fixtures/', import.meta.url).pathname;
const tokenizers = new URL('../../../model-folder/src/fixtures/tokenizers/', import.meta.url).pathname;
const readJson = async (path: string) => JSON.parse(await readFile(path, 'utf8'));
const caseFolder = (name: string) => join(cases, name.startsWith('llama') ? '' : 'families', name);
const description = { name: 'a name', baseModel: 'a base' };
const unchanged: PeftAdapter = { dropout: 0, modules: new Map(), baseModelNameOrPath: null };
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'write-gguf-'));
});
afterAll(() => rm(root, { recursive: true }));

/** The value as make-converted.py writes it: lists are their digest. */
function shown(value: GgufValue): unknown {
  if (!Array.isArray(value)) return value;
  const isFloat = value.some((each) => typeof each === 'number' && !Number.isInteger(each)) || value.includes(-1000);
  // As Python spells them.
  const spelled = value.map((each) => (typeof each === 'boolean' ? (each ? 'True' : 'False') : each));
  const data = isFloat ? new Uint8Array(Float32Array.from(value as number[]).buffer) : spelled.join('\n');
  return { length: value.length, sha256: sha256(data) };
}

/** Reads a file with the reader of set-up. */
async function contentOf(path: string) {
  const file = await readGguf(path);
  const tensors: Converted['tensors'] = {};
  for (const [name, { type, shape, bytes }] of file.tensors) tensors[name] = [type, shape, sha256(bytes)];
  return { metadata: Object.fromEntries([...file.metadata].map(([key, value]) => [key, shown(value)])), tensors };
}

/** The values of the converter; of float32, as the reader reads them. */
function values(metadata: Converted['metadata']): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(metadata).map(([key, [type, value]]) => [
      key,
      type === 'FLOAT32' ? Math.fround(value as number) : value,
    ]),
  );
}

/** Settings that llama.cpp does not have, and what they are replaced with. No weight depends on them. */
const REPLACED: Record<string, object> = {
  gemma2: { query_pre_attn_scalar: 8 },
  'gemma3-text': { query_pre_attn_scalar: 6 },
  'olmo3-legacy': { rope_theta: 500000 },
  'mistral-no-window-sharded': { hidden_act: 'silu' },
  'qwen3_5-text-square': { rms_norm_eps: 1e-6 },
  qwen3_5: { rms_norm_eps: 1e-6 },
  qwen3_5_moe: { rms_norm_eps: 1e-6 },
  'qwen3_5_moe-experts': { rms_norm_eps: 1e-6 },
  'qwen3_next-experts': { rms_norm_eps: 1e-6 },
};

let written = 0;
const newPath = () => join(root, `${written++}.gguf`);

/** A folder with the merged weights of PEFT. */
async function mergedFolder(name: string): Promise<string> {
  const folder = join(root, `merged-${name}-${written++}`);
  await mkdir(folder);
  const source = caseFolder(name);
  for (const file of await readdir(join(source, 'base'))) {
    if (file.endsWith('.json') && !file.includes('index'))
      await copyFile(join(source, 'base', file), join(folder, file));
  }
  await copyFile(join(source, 'merged', 'model.safetensors'), join(folder, 'model.safetensors'));
  await replaceSettings(folder, name);
  return folder;
}

async function baseFolder(name: string): Promise<string> {
  const folder = join(root, `base-${name}-${written++}`);
  await cp(join(caseFolder(name), 'base'), folder, { recursive: true });
  await replaceSettings(folder, name);
  return folder;
}

async function replaceSettings(folder: string, name: string): Promise<void> {
  const path = join(folder, 'config.json');
  const config = await readJson(path);
  Object.assign(config.text_config ?? config, REPLACED[name]);
  await writeFile(path, JSON.stringify(config));
}

const models: Record<string, Record<string, Converted>> = await readJson(join(fixtures, 'models.json'));
const adapters: Record<string, Converted> = await readJson(join(fixtures, 'adapters.json'));
const vocabularies = await readJson(join(fixtures, 'tokenizers.json'));

/** Keys where we say more, or something else, than the converter; each for a reason. */
const OTHERWISE: Record<string, string[]> = {
  // The window is the longest text, because llama.cpp has none.
  'mistral-window': ['llama.context_length'],
  'qwen2-window': ['qwen2.context_length'],
  // Without factors of its frequencies, the length of the original texts says nothing.
  // The converter reads the names of ChatGLM's own config, and takes its defaults; here there is no tokenizer.
  glm: [
    ...['chatglm.attention.layer_norm_rms_epsilon', 'chatglm.context_length', 'chatglm.rope.freq_base'],
    'tokenizer.ggml.add_bos_token',
  ],
  // It has no Mamba layers and no experts, whose width the converter takes for that of the MLP. All layers have as many heads.
  granitemoehybrid: [
    ...['conv_kernel', 'group_count', 'inner_size', 'state_size', 'time_step_rank'].map((key) => `granite.ssm.${key}`),
    ...['expert_count', 'expert_used_count', 'expert_shared_feed_forward_length'].map((key) => `granite.${key}`),
    ...['granite.feed_forward_length', 'granite.attention.head_count_kv'],
  ],
  // The attention factor is written as such, in place of what it is computed from.
  ministral3: ['yarn_beta_fast', 'yarn_beta_slow', 'yarn_log_multiplier'].map((key) => `mistral3.rope.scaling.${key}`),
  // It looks for the field in config.json alone, and takes 4 without it.
  'qwen3_5-text-square': ['qwen35.full_attention_interval'],
  qwen3_5: ['qwen35.full_attention_interval'],
  qwen3_5_moe: ['qwen35moe.full_attention_interval'],
  'qwen3_5_moe-experts': ['qwen35moe.full_attention_interval'],
  'qwen3_next-experts': ['qwen3next.full_attention_interval'],
  // See REPLACED.
  'olmo3-legacy': ['olmo2.rope.freq_base'],
  // Its norm is no RMS norm.
  nemotron: ['nemotron.attention.layer_norm_rms_epsilon'],
  // It looks for first_k_dense_replace, and takes 0 without it.
  glm4_moe_lite: ['deepseek2.leading_dense_block_count'],
  // They are the defaults, and others are refused.
  gpt_oss: ['yarn_beta_fast', 'yarn_beta_slow'].map((key) => `gpt-oss.rope.scaling.${key}`),
  'gpt_oss-mxfp4': ['yarn_beta_fast', 'yarn_beta_slow'].map((key) => `gpt-oss.rope.scaling.${key}`),
  'deepseek_v3-moonlight': ['yarn_beta_fast', 'yarn_beta_slow'].map((key) => `deepseek2.rope.scaling.${key}`),
  'mistral3-mistral4': ['yarn_beta_fast', 'yarn_beta_slow'].map((key) => `mistral4.rope.scaling.${key}`),
  'phi3-window': ['phi3.context_length', 'phi3.attention.sliding_window', 'phi3.rope.scaling.original_context_length'],
};

/** The base models of these are written, whose experts stay packed: merged models have none that are. */
const PACKED = ['gpt_oss-mxfp4'];

/** The adapters that llama.cpp would not apply as the model does. */
const NOT_APPLIED: Record<string, RegExp> = {
  'head-tied': /output head.*Take the merged model/,
  glm4_moe_lite: /self_attn\.q_b_proj; llama\.cpp does not apply it there/,
  'mistral3-mistral4': /self_attn\.q_a_proj; llama\.cpp does not apply it there/,
  gemma4_moe: /layers\.0\.experts\.down_proj; llama\.cpp does not apply it there.*Take the merged model/,
};

/** llama.cpp reads them in its architecture llama, too; its converter writes them for Phi-3 alone. */
const MORE_TENSORS: Record<string, string[]> = {
  'rope-longrope': ['rope_factors_long.weight', 'rope_factors_short.weight'],
};

describe.each(oneOfEachStructure(Object.keys(models)))('%s', (name) => {
  test.each(GGUF_TYPES)('as %s has the bytes of llama.cpp’s converter', async (type) => {
    const expected = models[name]![type.toLowerCase()]!;
    const path = newPath();
    const model = await readModelFolder(await (PACKED.includes(name) ? baseFolder(name) : mergedFolder(name)));
    const digest = await writeGgufModel({ model, adapter: unchanged, path, type, description });
    const bytes = await readFile(path);
    expect(digest).toEqual({ bytes: bytes.byteLength, sha256: sha256(bytes) });
    const found = await contentOf(path);
    for (const tensor of MORE_TENSORS[name] ?? []) {
      expect(found.tensors[tensor]).toBeDefined();
      delete found.tensors[tensor];
    }
    expect(found.tensors).toEqual(expected.tensors);
    const wanted = values(expected.metadata);
    for (const key of OTHERWISE[name] ?? []) delete wanted[key];
    expect(found.metadata).toMatchObject(wanted);
  });

  test('merged on the way has the bytes of the merged model', async () => {
    const base = await readModelFolder(await baseFolder(name));
    // Packed experts are only merged where an adapter changes them.
    await expectSameWhenMerged(base, PACKED.includes(name) ? adapterOfExperts(base) : await adapterOf(name));
  });

  test('the adapter has the bytes of llama.cpp’s converter', async () => {
    const model = await readModelFolder(await baseFolder(name));
    const adapter = await readPeftFolder(join(caseFolder(name), 'adapter_trained'));
    const path = newPath();
    const writing = writeGgufAdapter({ model, adapter, path, type: 'F32', description });
    if (NOT_APPLIED[name] !== undefined) {
      const message = expect.stringMatching(NOT_APPLIED[name]);
      await expect(writing).rejects.toMatchObject({ code: 'model_not_supported', message });
      return;
    }
    await writing;
    const found = await contentOf(path);
    if (adapters[name] === undefined) {
      // The converter transposes A and B with the weight of GPT-2, which does not fit: see "the layers of GPT-2" below. It fails for
      // Ministral 3, for fused projections of Qwen3-Next, for down_proj of experts alone, and for experts of Granite.
      const part = ['gpt2', 'qwen3_next-experts'].includes(name) ? 'attn_qkv' : 'attn_q';
      expect(Object.keys(found.tensors)).toContain(`blk.0.${part}.weight.lora_a`);
      return;
    }
    expect(found.tensors).toEqual(adapters[name].tensors);
    expect(found.metadata).toMatchObject(values(adapters[name].metadata));
  });
});

const adapterOf = (name: string) => readPeftFolder(join(caseFolder(name), 'adapter_trained'));

/** An adapter of all parameters of experts. */
function adapterOfExperts({ expertParameters }: ModelFolder): PeftAdapter {
  const rank = 2;
  const modules = [...expertParameters].map(([name, parameter], i): [string, PeftModule] => {
    const { experts, inFeatures, outFeatures } = parameter;
    const a = normalNumbers(experts * rank * inFeatures, 2 * i);
    const b = normalNumbers(experts * outFeatures * rank, 2 * i + 1);
    return [name, { a, b, rank, scale: 0.1, inFeatures, outFeatures, experts }];
  });
  return { ...unchanged, modules: new Map(modules) };
}

/** Compares a model that is merged while it is written with one that is merged before. */
async function expectSameWhenMerged(base: ModelFolder, adapter: PeftAdapter) {
  const folder = join(root, `ours-${written++}`);
  await mkdir(folder);
  await mergeModel({ model: base, adapter, outputFolder: folder });
  const merged = await readModelFolder(folder);
  for (const type of ['F32', 'Q8_0'] as GgufType[]) {
    const [once, twice] = [newPath(), newPath()];
    await writeGgufModel({ model: base, adapter, path: once, type, description });
    const model = { ...merged, name: base.name };
    await writeGgufModel({ model, adapter: unchanged, path: twice, type, description });
    expect((await readFile(once)).equals(await readFile(twice))).toBe(true);
  }
}

// Gate and up are rows of one weight in the first, heads have another order in the second; scales depend on the whole weight.
test.each(['granitemoehybrid', 'qwen3_5-text-square'])(
  '%s in 4 bits is decoded, and then its rows are ordered',
  async (name) => {
    const base = withBaseQuantization(await readModelFolder(await baseFolder(name)), 'nf4');
    expect(base.quantized.size).toBeGreaterThan(0);
    await expectSameWhenMerged(base, await adapterOf(name));
  },
);

// Fused, gate and up of an expert are matrices of their own, with scales of their own.
test.each([
  ['fused', () => true],
  ['each by itself', eachByItself],
])('experts that the files have %s are in 4 bits by matrix', async (form, hasTensor) => {
  const folder = join(root, form);
  await writeRandomModel(folder, SMALL_MIXTURE, { hasTensor, dtype: 'BF16' });
  const base = withBaseQuantization(await readModelFolder(folder), 'nf4');
  await expectSameWhenMerged(base, adapterOfExperts(base));
});

test('experts of gpt-oss: gate and up have the same A, and every second row of B, in adapters as in merged models', async () => {
  const base = await readModelFolder(await baseFolder('gpt_oss'));
  const adapter = adapterOfExperts(base);
  await expectSameWhenMerged(base, adapter);
  const path = newPath();
  await writeGgufAdapter({ model: base, adapter, path, type: 'F32', description });
  const { tensors } = await contentOf(path);
  const parameter = 'model.layers.1.mlp.experts.gate_up_proj';
  const module = adapter.modules.get(parameter)!;
  const { rank, inFeatures, outFeatures } = module;
  const each = Array.from({ length: module.experts! }, (_, expert) => ofExpert(module, expert));
  const bytes = (values: number[]) => sha256(new Uint8Array(Float32Array.from(values).buffer));
  for (const [half, name] of ['ffn_gate_exps', 'ffn_up_exps'].entries()) {
    const rows = each.flatMap(({ b }) => [...b].filter((_, index) => Math.floor(index / rank) % 2 === half));
    const expected = {
      lora_a: ['F32', [each.length, rank, inFeatures], bytes(each.flatMap(({ a }) => [...a]))],
      lora_b: ['F32', [each.length, outFeatures / 2, rank], bytes(rows)],
    };
    for (const [part, tensor] of Object.entries(expected)) {
      expect([part, tensors[`blk.1.${name}.weight.${part}`]]).toEqual([part, tensor]);
    }
  }
});

test('the layers of GPT-2: A is [rank, in] and B is [out, rank], as llama.cpp applies them', async () => {
  const folder = caseFolder('gpt2');
  const model = await readModelFolder(join(folder, 'base'));
  const adapter = await readPeftFolder(join(folder, 'adapter_trained'));
  const path = newPath();
  await writeGgufAdapter({ model, adapter, path, type: 'F32', description });
  const { tensors } = await contentOf(path);
  const { a, b, rank, inFeatures, outFeatures } = adapter.modules.get('transformer.h.0.attn.c_attn')!;
  const bytes = (values: Float32Array) => sha256(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  expect(tensors['blk.0.attn_qkv.weight.lora_a']).toEqual(['F32', [rank, inFeatures], bytes(a)]);
  expect(tensors['blk.0.attn_qkv.weight.lora_b']).toEqual(['F32', [outFeatures, rank], bytes(b)]);
});

describe('the tokenizer', () => {
  /** The metadata of a small model with this tokenizer, and as many ids as in make-converted.py. */
  async function metadataOf(name: string, change: (tokenizer: Tokenizer) => void = () => {}, template?: string) {
    const folder = await mergedFolder('tied-head-alone');
    const source = join(['sentencepiece', 'gemma4'].includes(name) ? fixtures : tokenizers, name);
    const family = name === 'gemma4' ? 'gemma4_text' : 'llama';
    await cp(source, folder, { recursive: true });
    const tokenizer = await readJson(join(folder, 'tokenizer.json'));
    change(tokenizer);
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    if (template !== undefined) await writeFile(join(folder, 'chat_template.jinja'), template);
    const { architecture } = await readModelFolder(folder);
    if (architecture.kind !== 'decoder') throw new Error('it is a decoder');
    const vocabSize = vocabularies[name]?.vocab_size ?? 800;
    const metadata = await tokenizerMetadata(
      { path: folder, name },
      { ...architecture, family, vocabSize, eosTokenIds: [] },
    );
    return Object.fromEntries(metadata.map(([key, { value }]) => [key.replace('tokenizer.ggml.', ''), value]));
  }

  test.each(Object.keys(vocabularies))('%s is that of llama.cpp’s converter', async (name) => {
    const found = await metadataOf(name);
    const expected = values(vocabularies[name].metadata);
    // Tokenizers of other families have one.
    delete expected['tokenizer.ggml.add_sep_token'];
    for (const [key, value] of Object.entries(expected)) {
      const own = key.replace('tokenizer.ggml.', '');
      expect([own, shown(found[own] as GgufValue)]).toEqual([own, value]);
    }
  });

  test('one of Qwen3.5 has letters with their marks in a word', async () => {
    const pattern =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" +
      '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
    const found = await metadataOf('qwen2', (it) => (it.pre_tokenizer.pretokenizers[0].pattern.Regex = pattern));
    expect(found.pre).toBe('qwen35');
  });

  test('the token that ends a turn is found from the chat template, and goes into the file with it', async () => {
    const template =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";
    const found = await metadataOf('smollm', () => {}, template);
    expect(found).toMatchObject({ eot_token_id: 2, 'tokenizer.chat_template': template });
    expect((found.tokens as string[])[2]).toBe('<|im_end|>');
  });

  test('a name does not make llama.cpp look for tokens of Phi-3 that are not there', async () => {
    const path = await mergedFolder('tied-head-alone');
    await cp(join(fixtures, 'sentencepiece'), path, { recursive: true });
    expect(await safeName('My-Phi3 and phi-3', { path })).toBe('My-phi 3 and phi 3');
    expect(await safeName('Llama', { path })).toBe('Llama');
    const tokenizer = await readJson(join(path, 'tokenizer.json'));
    tokenizer.added_tokens.push({ id: 999, content: '<|endoftext|>', special: true });
    await writeFile(join(path, 'tokenizer.json'), JSON.stringify(tokenizer));
    expect(await safeName('Phi-3-mini', { path })).toBe('Phi-3-mini');
  });

  test('a space before the text: always, never, and for conversations not behind special tokens', async () => {
    expect(await metadataOf('sentencepiece')).toMatchObject({ add_space_prefix: true });
    const metaspace = (scheme: string) => (tokenizer: Tokenizer) => {
      tokenizer.normalizer = null;
      tokenizer.pre_tokenizer = { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split: false };
    };
    expect(await metadataOf('sentencepiece', metaspace('first'))).toMatchObject({ add_space_prefix: true });
    expect(await metadataOf('sentencepiece', metaspace('first'), 'x')).toMatchObject({ add_space_prefix: false });
    expect(await metadataOf('sentencepiece', metaspace('never'))).toMatchObject({ add_space_prefix: false });
  });

  test.each<[string, string, (tokenizer: Tokenizer) => void, RegExp]>([
    ['splits otherwise', 'qwen2', (it) => (it.pre_tokenizer.pretokenizers[0].pattern.Regex = '\\w+'), /pre_tokenizer/],
    ['lowers', 'smollm', (it) => (it.normalizer = { type: 'Lowercase' }), /pre_tokenizer/],
    ['normalizes', 'sentencepiece', (it) => (it.normalizer = { type: 'NFKC' }), /normalizer/],
    ['adds other tokens', 'llama3', (it) => (it.post_processor = around('<|eot_id|>')), /adds \["<\|eot_id\|>"\]/],
    [
      'has the pairs of a token apart',
      'sentencepiece',
      (it) => it.model.merges.push(it.model.merges[0]),
      /order of the merges/,
    ],
    [
      'puts a space before a text of Gemma 4',
      'gemma4',
      (it) => (it.normalizer = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, it.normalizer] }),
      /space before a text/,
    ],
    ['lacks a merge', 'sentencepiece', (it) => it.model.merges.pop(), /order of the merges/],
    ['has more tokens than the model', 'smollm', (it) => (it.model.vocab.zzz = 5_000), /the id 5000/],
  ])('one that %s is refused', async (_, name, change, message) => {
    const refused = { code: 'model_not_supported', message: expect.stringMatching(message) };
    await expect(metadataOf(name, change)).rejects.toMatchObject(refused);
  });
});

// biome-ignore lint/suspicious/noExplicitAny: parts of a tokenizer.json that a test changes
type Tokenizer = Record<string, any>;

const around = (token: string) => ({
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
});

describe('what llama.cpp cannot express is refused by name:', () => {
  test.each([
    ['gemma2-uncapped-bias', /in gemma2 models/],
    ['qwen3-bias-layer-types', /attention_bias/],
    ['rope-dynamic', /type dynamic/],
    ['rope-yarn-options', /truncate: false/],
    ['gpt2-all-linear-options', /in gpt2 models/],
    ['mistral-no-window-sharded', /no gelu in mistral models/],
    ['gemma2', /scale of the attention scores/],
    ['gemma3-text', /scale of the attention scores/],
    ['olmo3-legacy', /rotary base of their own/],
    ['arcee', /bias of the MLP/],
    ['ernie4_5', /bias of the MLP/],
    ['exaone4', /another size than the hidden state/],
    ['olmo3', /bias of the attention output/],
    ['smollm3-window', /bias of the attention/],
    ['qwen3_5-text', /keys and values have different sizes \(they are 10 and 8\)/],
    ['qwen3_5-text-square', /rms_norm_eps but 0\.000001/],
    ['qwen3_5-text-tied', /attention_bias/],
    ['gemma4-text', /of the last two layers before them.*num_kv_shared_layers/],
    ['gemma4-text-keys', /attention_bias/],
    ['granitemoehybrid-experts', /does not write granitemoehybrid models with experts/],
    ['deepseek_v3', /bias of the attention layers \(attention_bias\)/],
    ['deepseek_v3-plain', /heads whose halves rotate \(rope_interleave false\)/],
    ['gpt_oss-experts', /attention layers without a bias \(attention_bias false\)/],
    ['qwen2_moe', /weights of a token's experts that sum to one/],
    ['qwen3_moe', /layers without experts behind others.*mlp_only_layers/],
    ['qwen3_moe-experts-down', /weights of a token's experts that do not sum to one/],
    ['qwen3_next', /keys and values have different sizes/],
  ])('%s', async (name, message) => {
    const model = await readModelFolder(join(cases, 'families', name, 'base'));
    const adapter = await readPeftFolder(join(cases, 'families', name, 'adapter_trained'));
    const refused = { code: 'model_not_supported', message: expect.stringMatching(message) };
    const [path, type] = [newPath(), 'F32'] as const;
    await expect(writeGgufModel({ model, adapter, path, type, description })).rejects.toMatchObject(refused);
    await expect(writeGgufAdapter({ model, adapter, path, type, description })).rejects.toMatchObject(refused);
  });

  describe('windows, and layers without positions', () => {
    const decoderOf = async (name: string) => {
      const { architecture } = await readModelFolder(join(cases, 'families', name, 'base'));
      if (architecture.kind !== 'decoder') throw new Error(architecture.kind);
      return architecture;
    };
    const withDenseMlp = (mixer: Mixer): LayerSettings => ({ mixer, mlp: { kind: 'dense' } });
    const settingsOf = (architecture: DecoderArchitecture) =>
      new Map(architectureMetadata(architecture, 'a model').settings.map(([key, { value }]) => [key, value]));

    test('of EXAONE 4, except in the model of 64 layers', async () => {
      const architecture = { ...(await decoderOf('exaone4')), headDim: 6 };
      const usual = mixersOf(architecture, 'attention').map((own) => ({ ...own, scale: 6 ** -0.5 }));
      const withLayers = (mixers: typeof usual): DecoderArchitecture => {
        return { ...architecture, layerCount: mixers.length, layers: mixers.map(withDenseMlp) };
      };
      expect(() => settingsOf(withLayers(usual))).toThrow(/windows unless there are 64 layers/);
      const large = Array.from({ length: 64 }, (_, index) => usual[index % 4]!);
      const settings = settingsOf(withLayers(large));
      expect(settings.get('attention.sliding_window')).toBe(6);
      const pattern = large.map((_, index) => index % 4 !== 3);
      expect(settings.get('attention.sliding_window_pattern')).toEqual(pattern);
      const rotating = large.map((layer) => ({ ...layer, rope: usual[0]!.rope }));
      expect(() => settingsOf(withLayers(rotating))).toThrow(/positions in layers without a window/);
    });

    test('of gpt-oss, or another unit', async () => {
      const architecture = await decoderOf('gpt_oss');
      const { ropes } = architecture;
      expect(settingsOf(architecture).get('attention.sliding_window')).toBe(7);
      const usual = mixersOf(architecture, 'attention');
      const full = usual.map((own, layer) => ({ ...architecture.layers[layer]!, mixer: { ...own, window: null } }));
      expect(() => settingsOf({ ...architecture, layers: full })).toThrow(/full attention in all layers/);
      const [first, second] = usual;
      const other = { ...ropes[0]!, theta: 5 };
      const layers = [{ ...first!, rope: ropes.length }, second!].map((mixer, layer) => ({
        ...architecture.layers[layer]!,
        mixer,
      }));
      expect(() => settingsOf({ ...architecture, layerCount: 2, layers, ropes: [...ropes, other] })).toThrow(
        /positions of their own in layers with a window/,
      );
      const mlp = { ...architecture.mlp, clampedAt: 5 };
      expect(() => settingsOf({ ...architecture, mlp })).toThrow(/clamped unit but at 7/);
    });

    test('of latent attention: scaled, and queries but as llama.cpp knows them', async () => {
      const read = await decoderOf('glm4_moe_lite');
      expect(settingsOf(read).get('expert_gating_func')).toBe(2);
      const [rope] = read.ropes;
      const ropes = [{ ...rope!, scaling: { type: 'linear', factor: 2 } as const }];
      expect(() => settingsOf({ ...read, ropes })).toThrow(/RoPE scaling of the type linear/);
      const moonlight = await decoderOf('deepseek_v3-moonlight');
      const [own] = mixersOf(read, 'latent');
      const ofAll = (change: Partial<LatentAttention>, layerCount = read.layerCount) => {
        const { mlp: ofFirst } = read.layers[0]!;
        const { mlp } = read.layers[1]!;
        return Array.from({ length: layerCount }, (_, layer) => ({
          mixer: { ...own!, ...change },
          mlp: layer === 0 ? ofFirst : mlp,
        }));
      };
      const unscaled = { ...read, ropes: moonlight.ropes, layers: ofAll({ scale: 10 ** -0.5 }) };
      expect(() => settingsOf(unscaled)).toThrow(/YaRN with mscale_all_dim 0 and an attention factor of 1/);
      expect(() => settingsOf({ ...read, layers: ofAll({ queryRank: null }) })).toThrow(/q_lora_rank null/);
      const layers = ofAll({}, 27);
      const lite = { ...read, layerCount: 27, layers };
      expect(() => settingsOf(lite)).toThrow(/latent of queries in models of 27 layers/);
      const plain = { ...lite, layers: ofAll({ queryRank: null }, 27) };
      expect(settingsOf(plain).get('attention.q_lora_rank')).toBeUndefined();
    });

    test('of Mistral 4, whose queries grow with their position', async () => {
      const read = await decoderOf('mistral4');
      const settings = settingsOf(read);
      expect(settings.get('attention.temperature_scale')).toBe(0.4);
      expect(settings.get('attention.temperature_length')).toBe(16);
      expect(settings.get('rope.scaling.yarn_log_multiplier')).toBe(0.1);
      const layers = mixersOf(read, 'latent').map((own, layer) => ({
        ...read.layers[layer]!,
        mixer: { ...own, scale: own.scale * 1.1 },
      }));
      expect(() => settingsOf({ ...read, layers })).toThrow(/YaRN with mscale_all_dim 1\./);
    });

    test('of Gemma 3 with YaRN, or scaled in layers with a window', async () => {
      const read = await decoderOf('gemma3-text');
      const mixers = mixersOf(read, 'attention').map((own) => ({ ...own, scale: 6 ** -0.5 }));
      const architecture = { ...read, layers: mixers.map(withDenseMlp) };
      const settings = settingsOf(architecture);
      expect(settings.get('rope.freq_base')).toBe(1000);
      expect(settings.get('rope.freq_base_swa')).toBe(50);
      expect(settings.get('rope.scaling.factor')).toBe(2);
      const [windowed, full] = [mixers[0]!.rope, mixers[2]!.rope];
      const changed = (place: number, scaling: RopeScaling) => () =>
        settingsOf({
          ...architecture,
          ropes: read.ropes.map((rope, i) => (i === place ? { ...rope!, scaling } : rope)),
        });
      expect(changed(windowed, { type: 'linear', factor: 2 })).toThrow(/RoPE scaling of layers with a window/);
      expect(changed(full, { type: 'dynamic', factor: 2, maxPositions: 64 })).toThrow(/but of the type linear/);
    });
  });

  test('keys and values of a latent in 4 bits', async () => {
    const model = await readModelFolder(await baseFolder('glm4_moe_lite'));
    const name = 'model.layers.1.self_attn.kv_b_proj.weight';
    const weight = new QuantizedOnLoad([64, 8]);
    const options = { adapter: unchanged, path: newPath(), type: 'F32', description } as const;
    const writing = writeGgufModel({ model: { ...model, quantized: new Map([[name, weight]]) }, ...options });
    const message = expect.stringMatching(
      /kv_b_proj\.weight is quantized.*Take the merged model in Hugging Face layout/,
    );
    await expect(writing).rejects.toMatchObject({ code: 'model_not_supported', message });
  });

  test('a classifier', async () => {
    const model = await readModelFolder(await baseFolder('tied-head-alone'));
    const architecture: Architecture = { kind: 'classifier', family: 'classifier', layers: [], activation: 'relu' };
    const other = { ...model, architecture };
    const writing = writeGgufModel({ model: other, adapter: unchanged, path: newPath(), type: 'F32', description });
    await expect(writing).rejects.toMatchObject({ message: expect.stringContaining('not a language model') });
  });

  test('numbers that are infinite in float16, and no file is left', async () => {
    const model = await readModelFolder(await baseFolder('tied-head-alone'));
    const name = 'model.layers.0.self_attn.v_proj';
    const { in_features: width, out_features: height } = model.modules.find((module) => module.name === name)!;
    const [a, b] = [new Float32Array(width).fill(300), new Float32Array(height).fill(300)];
    const module = { a, b, rank: 1, scale: 1, inFeatures: width, outFeatures: height };
    const adapter = { ...unchanged, modules: new Map([[name, module]]) };
    const [path, type] = [newPath(), 'F16'] as const;
    const refused = { code: 'merge_not_finite', message: expect.stringContaining(`${name}.weight as F16`) };
    await expect(writeGgufModel({ model, adapter, path, type, description })).rejects.toMatchObject(refused);
    expect(await readdir(root)).not.toContain(path.slice(root.length + 1));
    await writeGgufModel({ model, adapter, path, type: 'BF16', description });
  });
});
