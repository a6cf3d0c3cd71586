import { copyFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeSafetensors } from '../../../packages/weight-files/dist/index.js';

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
export const LARGE_SHAPES = {
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
export const SMALL_SHAPES = {
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
