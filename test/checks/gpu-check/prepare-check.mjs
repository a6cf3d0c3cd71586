import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { PRODUCT_VERSION } from '../../../packages/service-kit/dist/index.js';
import { cudaInstallation } from '../../../packages/tensor/dist/cuda-installation.js';
import { writeSafetensors } from '../../../packages/weight-files/dist/index.js';
import { DEMO_MODEL_NAME } from '../../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { NVRTC_WHEELS } from '../../../scripts/setup/pinned-wheels.mjs';
import { writeTinyLlama } from '../../tiny-llama.mjs';
import { textRows } from './text-rows.mjs';

const FIXTURES = path.join(ROOT_DIR, 'test/fixtures');
const STEPS = 8;
/** The longest size below, and the most rows a step. */
const MOST = { rows: 4, length: 8192 };
/** The published rates of others are of 2 × 2,048 and 2 × 4,096. @type {import('./parts.mjs').Sizes} */
const SIZES = {
  speed: '4x512,2x2048,4x2048,2x4096,1x8192',
  peer: '4x512,4x2048,1x8192',
  quantized: '2x2048,4x2048,2x4096',
  mixture: '4x512,4x2048',
  shared: 'chats:4x2048,pairs:2x2048,groups:1x256',
  jobs: '1x512',
  padding: '4x2048',
  longestRow: '32768',
  generation: ['128', '128'],
};
/** @type {import('./parts.mjs').Sizes} */
const SMALL_SIZES = {
  speed: '2x32',
  peer: '2x32',
  quantized: '2x32',
  mixture: '2x16',
  shared: 'chats:2x8,pairs:1x8,groups:1x2',
  jobs: '1x16',
  padding: '2x32',
  longestRow: '48',
  generation: ['8', '4'],
};
/** The least memory that activations, adapters and caches take beside the weights. */
const LEAST_FREE_BYTES = 4e9;
/** The memory of a model whose layers have 4 bits, as a share of bfloat16: the embedding and the head stay. */
const PACKED_SHARE = 0.4;

/**
 * Writes what parts read and needs no card: models with random weights, rows.
 *
 * @param {{ out: string, modelsDir: string, randomModelsDir: string, env: NodeJS.ProcessEnv, isEmulated: boolean, model: string | undefined, maxSteps: number | undefined, precision: string, python: string | undefined,
 *   log: (line: string) => void }} options `model`: folder of the demo's base model; undefined: the usual one
 * @returns {Promise<import('./parts.mjs').Check>}
 */
export async function prepareCheck(options) {
  const { out, modelsDir, randomModelsDir, env, isEmulated, python, log } = options;
  const rowsFile = path.join(out, 'rows.jsonl');
  const texts = isEmulated ? { rows: 2, length: 32 } : MOST;
  const rows = textRows({ ...texts, rows: texts.rows * STEPS });
  await writeFile(rowsFile, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const tiny = path.join(out, 'tiny-llama');
  if (isEmulated) await writeTinyLlama(tiny);
  const demoModel = options.model ?? (isEmulated ? tiny : path.join(modelsDir, DEMO_MODEL_NAME));
  const reference = path.join(FIXTURES, 'reference');
  const small = { name: '135M', folder: demoModel, bytes: await readWeights(demoModel) };
  const shapes = isEmulated ? { tiny: SMALL_SHAPES.llama, mixture: SMALL_SHAPES.mixture } : LARGE_SHAPES;
  const memoryBytes = isEmulated ? Number.POSITIVE_INFINITY : await cardMemory();
  const folder = isEmulated ? out : randomModelsDir;
  const written = await randomModels(folder, shapes, { memoryBytes, demoModel: isEmulated ? tiny : demoModel, log });
  const fitting = written.filter(({ bytes }) => bytes + LEAST_FREE_BYTES <= memoryBytes);
  return {
    ...{ out, env, isEmulated, demoModel, python },
    rows: path.join(ROOT_DIR, 'examples/dates/train.jsonl'),
    maxSteps: options.maxSteps ?? (isEmulated ? 6 : undefined),
    precision: options.precision,
    references: isEmulated
      ? [path.join(reference, 'llama-tied'), path.join(reference, 'linear')]
      : [...(await casesIn(reference)), ...(await casesIn(path.join(FIXTURES, 'families')))],
    models: [...fitting.filter(({ name }) => name !== 'mixture'), ...(isEmulated ? [] : [small])],
    packedModels: written.filter(({ name }) => name !== 'mixture'),
    mixture: fitting.find(({ name }) => name === 'mixture') ?? null,
    sizes: isEmulated ? SMALL_SIZES : SIZES,
    textRows: rowsFile,
    steps: isEmulated ? 2 : STEPS,
  };
}

/**
 * Writes models with random weights, those that the card has memory for in 4 bits.
 *
 * @param {string} folder
 * @param {Record<string, ModelShape>} shapes by name
 * @param {{ memoryBytes: number, demoModel: string, log: (line: string) => void }} options `memoryBytes`: of the card
 * @returns {Promise<import('./parts.mjs').Measured[]>}
 */
async function randomModels(folder, shapes, { memoryBytes, demoModel, log }) {
  const models = [];
  for (const [name, shape] of Object.entries(shapes)) {
    if (PACKED_SHARE * weightBytes(shape) + LEAST_FREE_BYTES > memoryBytes) continue;
    const own = path.join(folder, `random-${name}`);
    log(`Writing ${own}, ${(weightBytes(shape) / 1e9).toFixed(1)} GB of random weights`);
    await writeRandomModel({ folder: own, shape, tokenizerFrom: demoModel });
    models.push({ name, folder: own, bytes: await readWeights(own) });
  }
  return models;
}

/**
 * Reads the weights of a model, so that what is measured later does not wait for the disk.
 *
 * @param {string} folder
 * @returns {Promise<number>} their bytes
 */
async function readWeights(folder) {
  let bytes = 0;
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.safetensors')) continue;
    const file = path.join(folder, name);
    for await (const _ of createReadStream(file, { highWaterMark: 2 ** 22 }));
    bytes += (await stat(file)).size;
  }
  return bytes;
}

/** The memory of the first card; 0 where the driver's program does not say. */
async function cardMemory() {
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', [
      '--query-gpu=memory.total',
      '--format=csv,noheader,nounits',
    ]);
    return Number(stdout.split('\n')[0]) * 2 ** 20 || 0;
  } catch {
    return 0;
  }
}

/** @param {string} folder @returns {Promise<string[]>} folders with a case in `folder` */
async function casesIn(folder) {
  const found = await readdir(folder, { recursive: true });
  const cases = found.filter((name) => /^[^/]+\/(case|classifier)\.json$/.test(name));
  return cases.map((name) => path.join(folder, path.dirname(name)));
}

/**
 * The shape of a llama, or with experts of a Qwen3 MoE, whose every layer has them.
 *
 * @typedef {{ hidden_size: number, intermediate_size: number, num_hidden_layers: number, num_attention_heads: number,
 *   num_key_value_heads: number, head_dim: number, vocab_size: number, tie_word_embeddings: boolean, num_experts?: number,
 *   num_experts_per_tok?: number, moe_intermediate_size?: number }} ModelShape
 */

/**
 * Shapes of models that are measured with random weights, the largest first: those of Llama 3.1 8B and Llama 3.2 1B, and four of the 48 layers of
 * Qwen3-30B-A3B.
 *
 * @type {Record<'8B' | '1B' | 'mixture', ModelShape>}
 */
const LARGE_SHAPES = {
  '8B': {
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 128_256,
    tie_word_embeddings: false,
  },
  '1B': {
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 64,
    vocab_size: 128_256,
    tie_word_embeddings: true,
  },
  mixture: {
    hidden_size: 2048,
    intermediate_size: 6144,
    num_hidden_layers: 4,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    head_dim: 128,
    vocab_size: 151_936,
    tie_word_embeddings: false,
    num_experts: 128,
    num_experts_per_tok: 8,
    moe_intermediate_size: 768,
  },
};

/** Small shapes for an emulated card. Rows of weights are whole blocks of 64 numbers, so that they can be quantized. @type {Record<'llama' | 'mixture', ModelShape>} */
const SMALL_SHAPES = {
  llama: {
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 64,
    vocab_size: 160,
    tie_word_embeddings: true,
  },
  mixture: {
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    head_dim: 128,
    vocab_size: 160,
    tie_word_embeddings: false,
    num_experts: 4,
    num_experts_per_tok: 2,
    moe_intermediate_size: 64,
  },
};

const BYTES_PER_NUMBER = 2;
/** A prime, so that rows of a matrix differ. */
const BLOCK_NUMBERS = 4_194_301;

/** @param {ModelShape} shape */
export function weightBytes(shape) {
  return BYTES_PER_NUMBER * tensorsOf(shape).reduce((sum, [, sizes]) => sum + product(sizes), 0);
}

/**
 * Writes a base model of a shape with random bfloat16 weights, and with the tokenizer of another. A folder that has one is
 * left as it is.
 *
 * @param {{ folder: string, shape: ModelShape, tokenizerFrom: string }} options
 */
export async function writeRandomModel({ folder, shape, tokenizerFrom }) {
  const file = path.join(folder, 'model.safetensors');
  if (await stat(file).catch(() => null)) return;
  await mkdir(folder, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) {
    await copyFile(path.join(tokenizerFrom, name), path.join(folder, name)).catch(() => {});
  }
  const source = JSON.parse(await readFile(path.join(tokenizerFrom, 'config.json'), 'utf8'));
  const config = {
    ...(shape.num_experts === undefined
      ? { architectures: ['LlamaForCausalLM'], model_type: 'llama' }
      : { architectures: ['Qwen3MoeForCausalLM'], model_type: 'qwen3_moe', norm_topk_prob: true }),
    hidden_act: 'silu',
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    torch_dtype: 'bfloat16',
    bos_token_id: source.bos_token_id ?? null,
    eos_token_id: source.eos_token_id ?? null,
    ...shape,
  };
  await writeFile(path.join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  const block = randomBlock();
  let used = 0;
  const numbers = (/** @type {number[]} */ sizes) => {
    const values = new Uint16Array(product(sizes));
    for (let done = 0; done < values.length; ) {
      const piece = block.subarray(used, Math.min(block.length, used + values.length - done));
      values.set(piece, done);
      done += piece.length;
      used = (used + piece.length) % block.length;
    }
    return values;
  };
  await writeSafetensors(
    file,
    tensorsOf(shape).map(([name, sizes]) => ({
      name,
      dtype: /** @type {const} */ ('BF16'),
      shape: sizes,
      data: () => new Uint8Array((sizes.length === 1 ? ones(product(sizes)) : numbers(sizes)).buffer),
    })),
    { format: 'pt' },
  );
}

/** @param {ModelShape} shape @returns {[name: string, sizes: number[]][]} */
function tensorsOf(shape) {
  const { hidden_size: hidden, intermediate_size: intermediate, head_dim: headDim, vocab_size: vocabulary } = shape;
  const { num_experts: experts } = shape;
  const query = shape.num_attention_heads * headDim;
  const keyValue = shape.num_key_value_heads * headDim;
  const layers = Array.from({ length: shape.num_hidden_layers }, (_, index) => {
    const name = (/** @type {string} */ part) => `model.layers.${index}.${part}.weight`;
    return /** @type {[string, number[]][]} */ ([
      [name('input_layernorm'), [hidden]],
      [name('self_attn.q_proj'), [query, hidden]],
      [name('self_attn.k_proj'), [keyValue, hidden]],
      [name('self_attn.v_proj'), [keyValue, hidden]],
      [name('self_attn.o_proj'), [hidden, query]],
      [name('post_attention_layernorm'), [hidden]],
      ...(experts === undefined ? feedForward(name, hidden, intermediate) : expertsOf(index, shape)),
    ]);
  });
  return [
    ['model.embed_tokens.weight', [vocabulary, hidden]],
    ...layers.flat(),
    ['model.norm.weight', [hidden]],
    .../** @type {[string, number[]][]} */ (
      shape.tie_word_embeddings ? [] : [['lm_head.weight', [vocabulary, hidden]]]
    ),
  ];
}

/** @param {(part: string) => string} name @param {number} hidden @param {number} intermediate */
function feedForward(name, hidden, intermediate) {
  return [
    [name('mlp.gate_proj'), [intermediate, hidden]],
    [name('mlp.up_proj'), [intermediate, hidden]],
    [name('mlp.down_proj'), [hidden, intermediate]],
  ];
}

/** Norms of queries and keys, the router, and the experts in one tensor each. @param {number} layer @param {ModelShape} shape */
function expertsOf(
  layer,
  { hidden_size: hidden, head_dim: headDim, num_experts: count = 0, moe_intermediate_size: size = 0 },
) {
  const of = `model.layers.${layer}`;
  return [
    [`${of}.self_attn.q_norm.weight`, [headDim]],
    [`${of}.self_attn.k_norm.weight`, [headDim]],
    [`${of}.mlp.gate.weight`, [count, hidden]],
    [`${of}.mlp.experts.gate_up_proj`, [count, 2 * size, hidden]],
    [`${of}.mlp.experts.down_proj`, [count, hidden, size]],
  ];
}

/** Bfloat16 numbers between -0.03 and 0.03, the spread of trained weights. Zeros would let a GPU run faster. */
function randomBlock() {
  const words = new Uint32Array(new Float32Array(1).buffer);
  const value = new Float32Array(words.buffer);
  const block = new Uint16Array(BLOCK_NUMBERS);
  let state = 1;
  for (let i = 0; i < block.length; i++) {
    // Marsaglia's xorshift32.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    value[0] = ((state >>> 0) / 2 ** 32 - 0.5) * 0.06;
    block[i] = /** @type {number} */ (words[0]) >>> 16;
  }
  return block;
}

/** @param {number} count */
const ones = (count) => new Uint16Array(count).fill(0x3f80);

/** @param {number[]} sizes */
const product = (sizes) => sizes.reduce((all, size) => all * size, 1);

const run = promisify(execFile);
const SHOWN_DIGITS = 12;

/**
 * The product, its commit, its kernels and their compiler, for the head of a report.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Record<string, string>>}
 */
export async function identityOf(env) {
  const installation = cudaInstallation(env.CUDA_KERNEL_DIR);
  const nvrtc = NVRTC_WHEELS[process.arch];
  return {
    version: `${PRODUCT_VERSION}, ${await commitOf(ROOT_DIR)}`,
    kernels:
      installation === null
        ? 'not compiled'
        : `sha256 ${installation.digest.slice(0, SHOWN_DIGITS)}… with the addon, for ${installation.architectures.join(', ')}`,
    compiler: `NVRTC ${nvrtc?.version} of CUDA ${nvrtc?.version.split('.').slice(0, 2).join('.')}`,
  };
}

/**
 * The commit of a working tree, and whether it has changes.
 *
 * @param {string} folder
 */
async function commitOf(folder) {
  const git = (/** @type {string[]} */ ...args) => run('git', ['-C', folder, ...args]);
  try {
    // A package may have been unpacked within the clone of something else.
    const { stdout: top } = await git('rev-parse', '--show-prefix');
    if (top.trim() !== '') return NO_COMMIT;
    const { stdout: commit } = await git('rev-parse', 'HEAD');
    const { stdout: changes } = await git('status', '--porcelain', '--untracked-files=no');
    return `commit ${commit.trim()}${changes.trim() === '' ? '' : ' with changes'}`;
  } catch {
    return NO_COMMIT;
  }
}

const NO_COMMIT = 'a package without git: its commit is not known';
