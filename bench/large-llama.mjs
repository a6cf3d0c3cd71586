import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeSafetensors } from '../packages/safetensors/dist/index.js';
import { SeededRandom } from '../packages/seeded-random/dist/index.js';

/** 1.07 billion parameters, with the vocabulary of SmolLM2. */
const SHAPE = { layers: 16, hidden: 2048, intermediate: 8192, heads: 32, keyValueHeads: 8, vocabulary: 49_152 };
const SHARDS = 3;
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json'];
/** Weights are parts of one block of random numbers: making each by itself would take minutes. */
const BLOCK = 2 ** 22;

/**
 * Writes a Llama with random weights in bfloat16, 2.15 GB in three shards.
 *
 * @param {string} folder is created
 * @param {string} tokenizerFrom a model folder with SmolLM2's tokenizer
 */
export async function writeLargeLlama(folder, tokenizerFrom) {
  const { layers, hidden, intermediate, heads, keyValueHeads, vocabulary } = SHAPE;
  const keyValue = (hidden / heads) * keyValueHeads;
  await mkdir(folder, { recursive: true });
  await writeFile(
    path.join(folder, 'config.json'),
    JSON.stringify({
      model_type: 'llama',
      architectures: ['LlamaForCausalLM'],
      hidden_size: hidden,
      intermediate_size: intermediate,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: keyValueHeads,
      vocab_size: vocabulary,
      max_position_embeddings: 8192,
      tie_word_embeddings: true,
      rms_norm_eps: 1e-5,
      rope_theta: 100_000,
      hidden_act: 'silu',
      bos_token_id: 1,
      eos_token_id: 2,
      torch_dtype: 'bfloat16',
    }),
  );
  for (const name of TOKENIZER_FILES) await copyFile(path.join(tokenizerFrom, name), path.join(folder, name));

  /** @type {[name: string, shape: number[]][]} */
  const tensors = [['model.embed_tokens.weight', [vocabulary, hidden]]];
  for (let layer = 0; layer < layers; layer++) {
    const add = (/** @type {string} */ part, /** @type {number[]} */ shape) =>
      tensors.push([`model.layers.${layer}.${part}.weight`, shape]);
    add('input_layernorm', [hidden]);
    add('self_attn.q_proj', [hidden, hidden]);
    add('self_attn.k_proj', [keyValue, hidden]);
    add('self_attn.v_proj', [keyValue, hidden]);
    add('self_attn.o_proj', [hidden, hidden]);
    add('post_attention_layernorm', [hidden]);
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
        shape.length === 1 ? ones(size(shape)) : partsOf(block, size(shape), name.length + shape.length);
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
  const random = new SeededRandom(0, 'weights of the large model');
  const values = Float32Array.from({ length: BLOCK }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.next()));
    return 0.02 * radius * Math.cos(2 * Math.PI * random.next());
  });
  const words = new Uint32Array(values.buffer);
  return Uint16Array.from(words, (word) => word >>> 16);
}

/** @param {number} count */
function ones(count) {
  return new Uint8Array(new Uint16Array(count).fill(0x3f80).buffer);
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
