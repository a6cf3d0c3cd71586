// node test/bench/random-model.mjs FOLDER [NAME …]: writes models with random weights, those that are named or all: llama and gemma3_text, of
// the same shape (0.67 GB each), llama-nf4, the same in 4 bits, llama-1b (2.15 GB), qwen3_5_text (2.1 GB) and qwen3_moe (2 GB). --like names
// the folder with the tokenizer.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../../packages/seeded-random/dist/index.js';
import { NF4_VALUES, SCALE_VALUES, writeSafetensors } from '../../packages/weight-files/dist/index.js';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

/**
 * @typedef {object} Shape
 * @property {number} layers
 * @property {number} hidden
 * @property {number} intermediate
 * @property {number} heads
 * @property {number} keyValueHeads
 * @property {number} vocabulary
 * @property {number} [headDim] of hidden / heads if absent
 *
 * @typedef {object} Part a tensor of a layer, random unless it is `filled` with a bfloat16
 * @property {string} name
 * @property {number[]} shape
 * @property {number} [filled]
 */

/** Shapes by their parameters: 334 million (three periods of the layers of Gemma 3), 1.07 and 2.97 billion; the vocabulary is that of SmolLM2. */
export const SHAPES = /** @satisfies {Record<string, Shape>} */ ({
  '334m': { layers: 18, hidden: 1024, intermediate: 4096, heads: 8, keyValueHeads: 4, vocabulary: 49_152 },
  '1b': { layers: 16, hidden: 2048, intermediate: 8192, heads: 32, keyValueHeads: 8, vocabulary: 49_152 },
  '3b': { layers: 28, hidden: 3072, intermediate: 8192, heads: 24, keyValueHeads: 8, vocabulary: 49_152 },
});
/** 1.05 billion parameters; four periods of the layers of Qwen3.5. @type {Shape} */
const DELTA = {
  layers: 16,
  hidden: 2048,
  intermediate: 6144,
  heads: 8,
  keyValueHeads: 2,
  headDim: 256,
  vocabulary: 49_152,
};
/** 1.02 billion parameters in the structure of Qwen3 with experts; `intermediate` is that of an expert. @type {Shape} */
const MIXTURE = {
  layers: 12,
  hidden: 1024,
  intermediate: 384,
  heads: 16,
  keyValueHeads: 4,
  headDim: 128,
  vocabulary: 49_152,
};
/** The experts of a layer, and of a token. */
const EXPERTS = { count: 64, perToken: 8 };
/** The linear attention of Qwen3.5: heads of keys and of values, and their sizes. */
const LINEAR = { keyHeads: 16, valueHeads: 16, keyDim: 128, valueDim: 128, kernel: 4 };
/** Every fourth layer of Qwen3.5 has attention. */
const PERIOD = 4;
const SHARDS = 3;
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];
/** Weights are parts of one block of random numbers: making each by itself would take minutes. */
const BLOCK = 2 ** 22;

/** Bfloat16 numbers. */
const ZERO = 0;
const ONE = 0x3f80;

/**
 * The settings of each family, the tensors of a layer, and the stored weight of a norm that changes nothing. In texts of at most the
 * window, llama and gemma3_text compute the same products.
 *
 * @type {Record<'llama' | 'gemma3_text' | 'qwen3_5_text' | 'qwen3_moe', { config: object, layer: (shape: Shape, index: number) => Part[], norm: number }>}
 */
const FAMILIES = {
  llama: {
    config: { architectures: ['LlamaForCausalLM'], hidden_act: 'silu', rope_theta: 100_000 },
    norm: ONE,
    layer: (shape) => [
      ...norms(shape.hidden, ONE, ['input_layernorm', 'post_attention_layernorm']),
      ...attention(shape),
      ...feedForward(shape),
    ],
  },
  gemma3_text: {
    config: { architectures: ['Gemma3ForCausalLM'], hidden_activation: 'gelu_pytorch_tanh', sliding_window: 1024 },
    norm: ZERO,
    layer: (shape) => [
      ...norms(shape.hidden, ZERO, [
        'input_layernorm',
        'post_attention_layernorm',
        'pre_feedforward_layernorm',
        'post_feedforward_layernorm',
      ]),
      ...norms(headDimOf(shape), ZERO, HEAD_NORMS),
      ...attention(shape),
      ...feedForward(shape),
    ],
  },
  qwen3_5_text: {
    config: {
      architectures: ['Qwen3_5ForCausalLM'],
      hidden_act: 'silu',
      rope_parameters: { rope_type: 'default', rope_theta: 10_000_000, partial_rotary_factor: 0.25 },
      full_attention_interval: PERIOD,
      linear_num_key_heads: LINEAR.keyHeads,
      linear_num_value_heads: LINEAR.valueHeads,
      linear_key_head_dim: LINEAR.keyDim,
      linear_value_head_dim: LINEAR.valueDim,
      linear_conv_kernel_dim: LINEAR.kernel,
    },
    norm: ZERO,
    layer: (shape, index) => [
      ...norms(shape.hidden, ZERO, ['input_layernorm', 'post_attention_layernorm']),
      // Each query head has a gate of its size.
      ...(index % PERIOD === PERIOD - 1
        ? [...norms(headDimOf(shape), ZERO, HEAD_NORMS), ...attention(shape, { queryParts: 2 })]
        : linearAttention(shape)),
      ...feedForward(shape),
    ],
  },
  qwen3_moe: {
    config: {
      architectures: ['Qwen3MoeForCausalLM'],
      hidden_act: 'silu',
      rope_theta: 1_000_000,
      num_experts: EXPERTS.count,
      num_experts_per_tok: EXPERTS.perToken,
      moe_intermediate_size: MIXTURE.intermediate,
      norm_topk_prob: true,
    },
    norm: ONE,
    layer: (shape) => [
      ...norms(shape.hidden, ONE, ['input_layernorm', 'post_attention_layernorm']),
      ...norms(headDimOf(shape), ONE, HEAD_NORMS),
      ...attention(shape),
      ...experts(shape),
    ],
  },
};
const HEAD_NORMS = ['self_attn.q_norm', 'self_attn.k_norm'];

/** @param {Shape} shape */
function headDimOf({ headDim, hidden, heads }) {
  return headDim ?? hidden / heads;
}

/** @param {number} size @param {number} filled @param {string[]} names @returns {Part[]} */
function norms(size, filled, names) {
  return names.map((name) => ({ name: `${name}.weight`, shape: [size], filled }));
}

/** @param {Shape} shape @param {{ queryParts?: number }} [options] @returns {Part[]} */
function attention(shape, { queryParts = 1 } = {}) {
  const { hidden, heads, keyValueHeads } = shape;
  const values = headDimOf(shape) * heads;
  const keyValue = headDimOf(shape) * keyValueHeads;
  return [
    { name: 'self_attn.q_proj.weight', shape: [queryParts * values, hidden] },
    { name: 'self_attn.k_proj.weight', shape: [keyValue, hidden] },
    { name: 'self_attn.v_proj.weight', shape: [keyValue, hidden] },
    { name: 'self_attn.o_proj.weight', shape: [hidden, values] },
  ];
}

/** @param {Shape} shape @returns {Part[]} */
function linearAttention({ hidden }) {
  const { keyHeads, valueHeads, keyDim, valueDim, kernel } = LINEAR;
  const values = valueHeads * valueDim;
  const mixed = 2 * keyHeads * keyDim + values;
  return [
    { name: 'linear_attn.in_proj_qkv.weight', shape: [mixed, hidden] },
    { name: 'linear_attn.in_proj_z.weight', shape: [values, hidden] },
    { name: 'linear_attn.in_proj_b.weight', shape: [valueHeads, hidden] },
    { name: 'linear_attn.in_proj_a.weight', shape: [valueHeads, hidden] },
    { name: 'linear_attn.conv1d.weight', shape: [mixed, 1, kernel] },
    { name: 'linear_attn.A_log', shape: [valueHeads], filled: ZERO },
    { name: 'linear_attn.dt_bias', shape: [valueHeads], filled: ZERO },
    { name: 'linear_attn.norm.weight', shape: [valueDim], filled: ONE },
    { name: 'linear_attn.out_proj.weight', shape: [hidden, values] },
  ];
}

/** @param {Shape} shape @returns {Part[]} */
function feedForward({ hidden, intermediate }) {
  return [
    { name: 'mlp.gate_proj.weight', shape: [intermediate, hidden] },
    { name: 'mlp.up_proj.weight', shape: [intermediate, hidden] },
    { name: 'mlp.down_proj.weight', shape: [hidden, intermediate] },
  ];
}

/** @param {Shape} shape @returns {Part[]} */
function experts({ hidden, intermediate }) {
  return [
    { name: 'mlp.gate.weight', shape: [EXPERTS.count, hidden] },
    { name: 'mlp.experts.gate_up_proj', shape: [EXPERTS.count, 2 * intermediate, hidden] },
    { name: 'mlp.experts.down_proj', shape: [EXPERTS.count, hidden, intermediate] },
  ];
}

/**
 * Writes a model with random weights in bfloat16, in three shards.
 *
 * @param {string} folder is created
 * @param {{ family: keyof typeof FAMILIES, shape: Shape, tokenizerFrom: string, inNf4?: boolean }} options `tokenizerFrom`: a model
 *   folder with SmolLM2's tokenizer; `inNf4`: the weights of layers are random codes, as bitsandbytes stores them with double quantization
 */
export async function writeRandomModel(folder, { family, shape, tokenizerFrom, inNf4 = false }) {
  const { layers, hidden, intermediate, heads, keyValueHeads, vocabulary } = shape;
  const { config, layer: partsOfLayer, norm } = FAMILIES[family];
  await mkdir(folder, { recursive: true });
  await writeFile(
    path.join(folder, 'config.json'),
    JSON.stringify({
      model_type: family,
      hidden_size: hidden,
      intermediate_size: intermediate,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: keyValueHeads,
      head_dim: headDimOf(shape),
      vocab_size: vocabulary,
      max_position_embeddings: 8192,
      tie_word_embeddings: true,
      rms_norm_eps: 1e-5,
      bos_token_id: 1,
      eos_token_id: 2,
      torch_dtype: 'bfloat16',
      ...config,
      ...(inNf4 ? { quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true } } : {}),
    }),
  );
  for (const name of TOKENIZER_FILES) await copyFile(path.join(tokenizerFrom, name), path.join(folder, name));

  /** @type {Part[]} */
  const tensors = [{ name: 'model.embed_tokens.weight', shape: [vocabulary, hidden] }];
  for (let layer = 0; layer < layers; layer++) {
    tensors.push(
      ...partsOfLayer(shape, layer).map((part) => ({ ...part, name: `model.layers.${layer}.${part.name}` })),
    );
  }
  tensors.push(...norms(hidden, norm, ['model.norm']));

  const total = tensors.reduce((sum, part) => sum + size(part.shape), 0);
  const block = randomBfloat16();
  /** @type {Record<string, string>} */
  const weightMap = {};
  let written = 0;
  for (let shard = 0; shard < SHARDS; shard++) {
    const file = `model-0000${shard + 1}-of-0000${SHARDS}.safetensors`;
    const own = [];
    for (; tensors[0] !== undefined && written < (total * (shard + 1)) / SHARDS; tensors.shift()) {
      const { name, shape: sizes, filled } = tensors[0];
      written += size(sizes);
      if (inNf4 && name.endsWith('_proj.weight')) {
        const parts = partsInNf4(name, sizes, block);
        for (const part of parts) weightMap[part.name] = file;
        own.push(...parts);
        continue;
      }
      weightMap[name] = file;
      const data = () =>
        filled === undefined
          ? partsOf(block, size(sizes), name.length + sizes.length)
          : filledWith(filled, size(sizes));
      own.push({ name, dtype: /** @type {const} */ ('BF16'), shape: sizes, data });
    }
    await writeSafetensors(path.join(folder, file), own, { format: 'pt' });
  }
  const index = { metadata: { total_size: 2 * total }, weight_map: weightMap };
  await writeFile(path.join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
}

/**
 * The tensors that bitsandbytes stores for a weight: random bytes as codes of numbers and of scales.
 *
 * @param {string} name @param {number[]} shape @param {Uint16Array} block
 */
function partsInNf4(name, shape, block) {
  const scales = size(shape) / 64;
  const nested = Math.ceil(scales / 256);
  const bytes = (/** @type {number} */ count) => partsOf(block, Math.ceil(count / 2), count).subarray(0, count);
  const state = {
    quant_type: 'nf4',
    blocksize: 64,
    dtype: 'bfloat16',
    shape,
    nested_blocksize: 256,
    nested_dtype: 'float32',
    nested_offset: 0.05,
  };
  const text = Buffer.from(JSON.stringify(state));
  const u8 = (/** @type {string} */ of, /** @type {number[]} */ sizes, /** @type {() => Uint8Array} */ data) => {
    return { name: `${name}${of}`, dtype: /** @type {const} */ ('U8'), shape: sizes, data };
  };
  const f32 = (/** @type {string} */ of, /** @type {Float32Array} */ numbers) => {
    const data = () => new Uint8Array(numbers.slice().buffer);
    return { name: `${name}${of}`, dtype: /** @type {const} */ ('F32'), shape: [numbers.length], data };
  };
  return [
    u8('', [size(shape) / 2, 1], () => bytes(size(shape) / 2)),
    u8('.absmax', [scales], () => bytes(scales)),
    f32('.quant_map', NF4_VALUES),
    f32('.nested_absmax', new Float32Array(nested).fill(0.04)),
    f32('.nested_quant_map', SCALE_VALUES),
    u8('.quant_state.bitsandbytes__nf4', [text.length], () => text),
  ];
}

/** @param {number[]} shape */
function size(shape) {
  return shape.reduce((product, length) => product * length, 1);
}

/** Normal, with standard deviation 0.02. */
function randomBfloat16() {
  const random = new SeededRandom(0, 'weights of a random model');
  const values = Float32Array.from({ length: BLOCK }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.next()));
    return 0.02 * radius * Math.cos(2 * Math.PI * random.next());
  });
  const words = new Uint32Array(values.buffer);
  return Uint16Array.from(words, (word) => word >>> 16);
}

/** @param {number} word a bfloat16 @param {number} count */
function filledWith(word, count) {
  return new Uint8Array(new Uint16Array(count).fill(word).buffer);
}

/** @param {Uint16Array} block @param {number} count @param {number} seed */
function partsOf(block, count, seed) {
  const result = new Uint16Array(count);
  // Each repetition starts elsewhere in the block, so that rows differ.
  for (let done = 0, turn = seed; done < count; turn++) {
    const part = block.subarray((turn * 7919 * 13) % (BLOCK / 2)).subarray(0, count - done);
    result.set(part, done);
    done += part.length;
  }
  return new Uint8Array(result.buffer);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { like: { type: 'string', default: path.join(ROOT_DIR, 'models/SmolLM2-135M-Instruct') } },
  });
  const [folder, ...names] = positionals;
  const models = /** @type {const} */ ([
    { name: 'llama', family: 'llama', shape: SHAPES['334m'] },
    { name: 'llama-nf4', family: 'llama', shape: SHAPES['334m'], inNf4: true },
    { name: 'gemma3_text', family: 'gemma3_text', shape: SHAPES['334m'] },
    { name: 'llama-1b', family: 'llama', shape: SHAPES['1b'] },
    { name: 'qwen3_5_text', family: 'qwen3_5_text', shape: DELTA },
    { name: 'qwen3_moe', family: 'qwen3_moe', shape: MIXTURE },
  ]);
  const known = models.map(({ name }) => name);
  if (folder === undefined || names.some((name) => !known.some((one) => one === name))) {
    process.stderr.write(
      `usage: node test/bench/random-model.mjs FOLDER [NAME …] [--like MODEL]\nnames: ${known.join(', ')}\n`,
    );
    process.exit(2);
  }
  for (const { name, ...options } of models) {
    if (names.length > 0 && !names.includes(name)) continue;
    const model = path.join(folder, name);
    await writeRandomModel(model, { ...options, tokenizerFrom: values.like });
    process.stdout.write(`${model}\n`);
  }
}
