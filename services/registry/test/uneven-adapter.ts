import { type RawEntry, tarOf } from './tar-bytes.js';

/** Linear layers of each of the 3 layers of `llama-tied`, as `[out, in]`. */
const LAYERS: Record<string, [number, number]> = {
  'self_attn.q_proj': [48, 48],
  'self_attn.k_proj': [16, 48],
  'self_attn.v_proj': [16, 48],
  'self_attn.o_proj': [48, 48],
  'mlp.gate_proj': [96, 48],
  'mlp.up_proj': [96, 48],
  'mlp.down_proj': [48, 96],
};
const WIDE = 'model.layers.0.self_attn.q_proj';
/** The sum of `in + out` over all layers. */
const FEATURES = 3 * Object.values(LAYERS).reduce((sum, [out, width]) => sum + out + width, 0);

/**
 * A tar of an adapter for `llama-tied` that is much larger once it is stored: one layer has the given rank, all others
 * have 1. All numbers are 0.
 *
 * @param config - The config of any adapter; its ranks are replaced
 */
export function unevenAdapter(config: object, rank: number): Buffer {
  const header: Record<string, object> = {};
  let bytes = 0;
  const add = (name: string, shape: [number, number]) => {
    const end = bytes + 4 * shape[0] * shape[1];
    header[`base_model.model.${name}.weight`] = { dtype: 'F32', shape, data_offsets: [bytes, end] };
    bytes = end;
  };
  for (let layer = 0; layer < 3; layer++) {
    for (const [part, [out, width]] of Object.entries(LAYERS)) {
      const name = `model.layers.${layer}.${part}`;
      const own = name === WIDE ? rank : 1;
      add(`${name}.lora_A`, [own, width]);
      add(`${name}.lora_B`, [out, own]);
    }
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const files: RawEntry[] = [
    { name: 'adapter_config.json', content: JSON.stringify({ ...config, r: 1, rank_pattern: { [WIDE]: rank } }) },
    { name: 'adapter_model.safetensors', content: Buffer.concat([length, text, Buffer.alloc(bytes)]) },
  ];
  return tarOf(files);
}

/** Size of its tensors as they are stored. */
export function storedBytesOf(rank: number): number {
  return 4 * rank * FEATURES;
}
