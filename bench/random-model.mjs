import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeSafetensors } from '../packages/safetensors/dist/index.js';
import { SeededRandom } from '../packages/seeded-random/dist/index.js';

/** @typedef {{ layers: number, hidden: number, intermediate: number, heads: number, keyValueHeads: number, vocabulary: number }} Shape */

/** 1.07 billion parameters, with the vocabulary of SmolLM2. @type {Shape} */
export const LARGE = {
  layers: 16,
  hidden: 2048,
  intermediate: 8192,
  heads: 32,
  keyValueHeads: 8,
  vocabulary: 49_152,
};
/** 334 million parameters; three periods of the layers of Gemma 3. @type {Shape} */
export const SMALL = {
  layers: 18,
  hidden: 1024,
  intermediate: 4096,
  heads: 8,
  keyValueHeads: 4,
  vocabulary: 49_152,
};
const SHARDS = 3;
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];
/** Weights are parts of one block of random numbers: making each by itself would take minutes. */
const BLOCK = 2 ** 22;

/**
 * The settings and norms of each family, and the stored weight (in bfloat16) of a norm that changes nothing. In texts of at most the
 * window, both families compute the same products.
 */
const FAMILIES = {
  llama: {
    config: { architectures: ['LlamaForCausalLM'], hidden_act: 'silu', rope_theta: 100_000 },
    norms: ['input_layernorm', 'post_attention_layernorm'],
    headNorms: [],
    one: 0x3f80,
  },
  gemma3_text: {
    config: { architectures: ['Gemma3ForCausalLM'], hidden_activation: 'gelu_pytorch_tanh', sliding_window: 1024 },
    norms: ['input_layernorm', 'post_attention_layernorm', 'pre_feedforward_layernorm', 'post_feedforward_layernorm'],
    headNorms: ['self_attn.q_norm', 'self_attn.k_norm'],
    one: 0,
  },
};

/**
 * Writes a model with random weights in bfloat16, in three shards.
 *
 * @param {string} folder is created
 * @param {{ family: keyof typeof FAMILIES, shape: Shape, tokenizerFrom: string }} options `tokenizerFrom`: a model folder with SmolLM2's tokenizer
 */
export async function writeRandomModel(folder, { family, shape: sizes, tokenizerFrom }) {
  const { layers, hidden, intermediate, heads, keyValueHeads, vocabulary } = sizes;
  const { config, norms, headNorms, one } = FAMILIES[family];
  const headDim = hidden / heads;
  const keyValue = headDim * keyValueHeads;
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
      head_dim: headDim,
      vocab_size: vocabulary,
      max_position_embeddings: 8192,
      tie_word_embeddings: true,
      rms_norm_eps: 1e-5,
      bos_token_id: 1,
      eos_token_id: 2,
      torch_dtype: 'bfloat16',
      ...config,
    }),
  );
  for (const name of TOKENIZER_FILES) await copyFile(path.join(tokenizerFrom, name), path.join(folder, name));

  /** @type {[name: string, shape: number[]][]} */
  const tensors = [['model.embed_tokens.weight', [vocabulary, hidden]]];
  for (let layer = 0; layer < layers; layer++) {
    const add = (/** @type {string} */ part, /** @type {number[]} */ shape) =>
      tensors.push([`model.layers.${layer}.${part}.weight`, shape]);
    for (const norm of norms) add(norm, [hidden]);
    for (const norm of headNorms) add(norm, [headDim]);
    add('self_attn.q_proj', [hidden, hidden]);
    add('self_attn.k_proj', [keyValue, hidden]);
    add('self_attn.v_proj', [keyValue, hidden]);
    add('self_attn.o_proj', [hidden, hidden]);
    add('mlp.gate_proj', [intermediate, hidden]);
    add('mlp.up_proj', [intermediate, hidden]);
    add('mlp.down_proj', [hidden, intermediate]);
  }
  tensors.push(['model.norm.weight', [hidden]]);

  const total = tensors.reduce((sum, [, shape]) => sum + size(shape), 0);
  const block = randomBfloat16();
  /** @type {Record<string, string>} */
  const weightMap = {};
  let written = 0;
  for (let shard = 0; shard < SHARDS; shard++) {
    const file = `model-0000${shard + 1}-of-0000${SHARDS}.safetensors`;
    const own = [];
    for (; tensors[0] !== undefined && written < (total * (shard + 1)) / SHARDS; tensors.shift()) {
      const [name, shape] = tensors[0];
      weightMap[name] = file;
      const data = () =>
        shape.length === 1 ? filled(size(shape), one) : partsOf(block, size(shape), name.length + shape.length);
      own.push({ name, dtype: /** @type {const} */ ('BF16'), shape, data });
      written += size(shape);
    }
    await writeSafetensors(path.join(folder, file), own, { format: 'pt' });
  }
  const index = { metadata: { total_size: 2 * total }, weight_map: weightMap };
  await writeFile(path.join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
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

/** @param {number} count @param {number} word a bfloat16 */
function filled(count, word) {
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
