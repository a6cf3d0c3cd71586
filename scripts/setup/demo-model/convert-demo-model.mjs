import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { DECODE_ROW } from './bfloat16-rows.mjs';
import { CONFIG, GENERATION_CONFIG } from './config-files.mjs';
import { readGguf } from './read-gguf.mjs';
import { tokenizerFiles } from './tokenizer-files.mjs';

/** @typedef {import('./read-gguf.mjs').GgufTensor} GgufTensor */

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
export async function convertDemoModel(ggufFile, folder) {
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
