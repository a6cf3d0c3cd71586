import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readModelFolder } from '../packages/model-folder/dist/index.js';
import { openSafetensors, toFloat32, writeSafetensors } from '../packages/safetensors/dist/index.js';

/** NF4 (Dettmers et al. 2023, arXiv:2305.14314). */
const VALUES = Float32Array.of(
  ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334],
  ...[-0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
  ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
);
const MIDPOINTS = VALUES.slice(1).map((value, i) => (value + (VALUES[i] ?? 0)) / 2);
/** Evenly spaced, unlike bitsandbytes': a reader takes those of the file. */
const SCALE_VALUES = Float32Array.from({ length: 256 }, (_, i) => (2 * i) / 255 - 1);

/**
 * A copy of a model whose linear layers are in 4 bits with double quantization, in the format of bitsandbytes. For timing: its
 * rounding of scales is coarser.
 *
 * @param {string} from @param {string} to is created
 */
export async function quantizedCopy(from, to) {
  await mkdir(to, { recursive: true });
  const model = await readModelFolder(from);
  const linears = new Set(model.modules.map(({ name }) => model.linears.get(name)?.weight));
  for (const name of await readdir(from)) {
    if (/\.(json|jinja)$/.test(name) && !name.includes('.index.'))
      await copyFile(path.join(from, name), path.join(to, name));
  }
  const config = JSON.parse(await readFile(path.join(from, 'config.json'), 'utf8'));
  const quantization_config = { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' };
  await writeFile(path.join(to, 'config.json'), JSON.stringify({ ...config, quantization_config }));
  const tensors = [];
  for (const { path: location } of model.files) {
    const file = await openSafetensors(location);
    for (const { name, dtype, shape } of file.tensors.values()) {
      const data = await file.read(name);
      if (linears.has(name)) tensors.push(...quantized(name, shape, toFloat32(data, /** @type {'BF16'} */ (dtype))));
      else tensors.push({ name, dtype, shape, data });
    }
    await file.close();
  }
  await writeSafetensors(path.join(to, 'model.safetensors'), tensors);
}

/**
 * @param {string} name @param {readonly number[]} shape
 * @param {Float32Array} numbers a multiple of 64
 */
function quantized(name, shape, numbers) {
  const blocks = numbers.length / 64;
  const scales = new Float32Array(blocks);
  const codes = new Uint8Array(numbers.length / 2);
  for (let block = 0; block < blocks; block++) {
    const own = numbers.subarray(64 * block, 64 * (block + 1));
    const scale = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    scales[block] = scale;
    for (let i = 0; i < 64; i += 2) {
      codes[32 * block + i / 2] = (codeOf(own[i] ?? 0, scale) << 4) | codeOf(own[i + 1] ?? 0, scale);
    }
  }
  const offset = Math.fround(scales.reduce((sum, scale) => sum + scale, 0) / blocks);
  const nested = new Float32Array(Math.ceil(blocks / 256));
  const scaleCodes = new Uint8Array(blocks);
  for (let group = 0; group < nested.length; group++) {
    const own = scales.subarray(256 * group, 256 * (group + 1));
    const most = own.reduce((largest, scale) => Math.max(largest, Math.abs(scale - offset)), 1e-12);
    nested[group] = most;
    for (const [i, scale] of own.entries()) {
      scaleCodes[256 * group + i] = Math.round((((scale - offset) / most + 1) / 2) * 255);
    }
  }
  const state = {
    ...{ quant_type: 'nf4', blocksize: 64, dtype: 'bfloat16', shape },
    ...{ nested_blocksize: 256, nested_dtype: 'float32', nested_offset: offset },
  };
  const text = new TextEncoder().encode(JSON.stringify(state));
  /** @param {string} part @param {Float32Array} data */
  const float32 = (part, data) => ({
    ...{ name: `${name}.${part}`, dtype: /** @type {const} */ ('F32'), shape: [data.length] },
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  });
  /** @param {string} part @param {Uint8Array} data */
  const bytes = (part, data) => {
    return { name: `${name}${part}`, dtype: /** @type {const} */ ('U8'), shape: [data.length], data };
  };
  return [
    bytes('', codes),
    bytes('.absmax', scaleCodes),
    float32('nested_absmax', nested),
    float32('quant_map', VALUES),
    float32('nested_quant_map', SCALE_VALUES),
    bytes('.quant_state.bitsandbytes__nf4', text),
  ];
}

/** @param {number} value @param {number} scale */
function codeOf(value, scale) {
  if (scale === 0) return 7;
  const x = value / scale;
  let code = 0;
  while (code < 15 && x > (MIDPOINTS[code] ?? 0)) code++;
  return code;
}
