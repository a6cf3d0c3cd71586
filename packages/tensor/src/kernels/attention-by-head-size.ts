import type { Tensor } from '../tensor.js';
import type { AttentionRows, AttentionSettings, BatchAttention, SavedAttention } from './attention.js';
import { GroupedAttention } from './grouped-attention.js';

export interface HeadSizeChoice {
  /** Whether heads of this size are computed by TensorFlow's own ops. */
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
