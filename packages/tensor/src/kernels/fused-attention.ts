import { engine, type OpAttribute } from '../binding.js';
import { elementType, execute, executeMany, floatAttribute, intAttribute } from '../execute.js';
import { alias, dispose, scope, type Tensor } from '../tensor.js';
import { cast, onDevice, tensorOf } from '../transfer.js';
import type { AttentionRows, AttentionSettings, BatchAttention, SavedAttention } from './attention.js';
import { GroupedAttention } from './grouped-attention.js';
import type { RotaryAngles } from './rotary.js';

type Saved = {
  qkv: Tensor;
  output: Tensor;
  /** `[tokens, heads]` float32: the logarithm of each query's sum */
  logSums: Tensor;
};

/** The head size of the largest kernel on a GPU. */
const GREATEST_HEAD_DIM = 512;

/** The presence of a kernel for heads of this size in the engine. */
export function hasAttentionKernel(headDim: number): boolean {
  return engine.kind !== 'cuda' || (headDim <= GREATEST_HEAD_DIM && headDim % 4 === 0);
}

/** {@link FusedAttention}, where the engine has kernels for heads of this size. */
export function fusedAttention(rows: AttentionRows): BatchAttention {
  const headDim = 2 * rows.angles.cosine.shape[1]!;
  return hasAttentionKernel(headDim) ? new FusedAttention(rows) : new PlainAttentionInFloat32(rows);
}

/**
 * Attention in TensorFlow's ops, where there is no kernel: in float32, so that scores are rounded no more often than a kernel
 * rounds them.
 */
class PlainAttentionInFloat32 implements BatchAttention {
  readonly #plain: GroupedAttention;

  constructor(rows: AttentionRows) {
    this.#plain = new GroupedAttention(rows);
  }

  forward(qkv: Tensor, settings: AttentionSettings, record: boolean): { output: Tensor; saved: SavedAttention | null } {
    return scope(() => {
      const { output, saved } = this.#plain.forward(cast(qkv, 'float32'), settings, record);
      return { output: cast(output, qkv.dtype), saved };
    });
  }

  backward(gradient: Tensor, saved: SavedAttention, settings: AttentionSettings): Tensor {
    return scope(() => cast(this.#plain.backward(cast(gradient, 'float32'), saved, settings), gradient.dtype));
  }
}

/** Attention in one fused op: rows of any lengths, without padding. */
export class FusedAttention implements BatchAttention {
  /** `[rows + 1]` int32: where each row begins in the stream, and where the last ends */
  readonly offsets: Tensor;
  readonly angles: RotaryAngles;
  readonly #tokens: number;

  constructor({ lengths, angles }: AttentionRows) {
    const positions = angles.cosine.shape[0]!;
    const offsets = new Int32Array(lengths.length + 1);
    for (const [row, length] of lengths.entries()) {
      // On a GPU the op cannot check it: the offsets are on the card.
      if (length < 1 || length > positions) throw new Error(`a row of ${length} tokens; there are ${positions} angles`);
      offsets[row + 1] = offsets[row]! + length;
    }
    this.#tokens = offsets[lengths.length]!;
    this.offsets = scope(() => onDevice(tensorOf(offsets, [offsets.length])));
    this.angles = angles;
  }

  forward(qkv: Tensor, settings: AttentionSettings, record: boolean): { output: Tensor; saved: Saved | null } {
    if (qkv.shape[0] !== this.#tokens) throw new Error(`${qkv.shape[0]} tokens in rows of ${this.#tokens}`);
    const sinks = sinksInput(settings);
    const inputs = [qkv, this.offsets, this.angles.cosine, this.angles.sine, sinks];
    const [output, logSums] = executeMany('LorasmithAttention', attributesOf(qkv, settings), inputs, 2);
    if (sinks !== settings.sinks) sinks.dispose();
    if (record) return { output: output!, saved: { qkv: alias(qkv), output: alias(output!), logSums: logSums! } };
    logSums!.dispose();
    return { output: output!, saved: null };
  }

  backward(gradient: Tensor, saved: SavedAttention, settings: AttentionSettings): Tensor {
    const { qkv, output, logSums } = saved as Saved;
    const inputs = [gradient, qkv, output, logSums, this.offsets, this.angles.cosine, this.angles.sine];
    const result = execute('LorasmithAttentionGradient', attributesOf(qkv, settings), inputs);
    dispose(saved);
    return result;
  }
}

/** Sinks as an op takes them: with none, an empty tensor that the caller frees. */
export function sinksInput({ sinks }: AttentionSettings): Tensor {
  return sinks ?? tensorOf(new Float32Array(0), [0]);
}

const attributesOf = (qkv: Tensor, settings: AttentionSettings): OpAttribute[] => [
  elementType(qkv),
  intAttribute('heads', settings.heads),
  intAttribute('key_value_heads', settings.keyValueHeads),
  intAttribute('window', settings.window ?? 0),
  floatAttribute('scale', settings.scale),
  floatAttribute('softcap', settings.softcap ?? 0),
];

export interface HeadSizeChoice {
  /** True if heads of this size are computed by TensorFlow's own ops. */
  isPlain: (headDim: number) => boolean;
  /** Attention for heads of the other sizes. */
  fused: (rows: AttentionRows) => BatchAttention;
}

/** Attention whose kernel depends on the head size, since the fused one is wrong at some sizes on this machine. */
export class AttentionByHeadSize implements BatchAttention {
  readonly #isPlain: (headDim: number) => boolean;
  readonly #plain: BatchAttention;
  readonly #fused: BatchAttention;

  constructor(rows: AttentionRows, { isPlain, fused }: HeadSizeChoice) {
    this.#isPlain = isPlain;
    // Both now, in the scope of the batch: a layer's scope would free what they lay out.
    this.#plain = new GroupedAttention(rows);
    this.#fused = fused(rows);
  }

  forward(qkv: Tensor, settings: AttentionSettings, record: boolean): ReturnType<BatchAttention['forward']> {
    return this.#for(settings).forward(qkv, settings, record);
  }

  backward(gradient: Tensor, saved: SavedAttention, settings: AttentionSettings): Tensor {
    return this.#for(settings).backward(gradient, saved, settings);
  }

  #for({ headDim }: AttentionSettings): BatchAttention {
    return this.#isPlain(headDim) ? this.#plain : this.#fused;
  }
}
