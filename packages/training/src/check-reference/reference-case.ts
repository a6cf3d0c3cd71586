import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import { openSafetensors, toFloat32 } from '@lorasmith/weight-files';

/** `case.json` of a reference folder: settings, losses and gradient norms of its optimizer steps. */
export interface ReferenceSteps {
  optimizer: {
    lr: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    steps: number;
    max_grad_norm: number;
    /** LoRA+: the learning rate of B, as a multiple of A's. */
    lora_plus_ratio?: number;
    /** PEFT's name for it. */
    loraplus_lr_ratio?: number;
  };
  /** The loss before each step, and after the last. */
  losses: number[];
  /** Norms before clipping. */
  grad_norms: number[];
}

export async function readJson<Content>(folder: string, name: string): Promise<Content> {
  return JSON.parse(await readFile(join(folder, name), 'utf8')) as Content;
}

/** Every tensor of a safetensors file as float32, by name, with its shape. */
export async function readTensors(
  path: string,
): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
  const file = await openSafetensors(path);
  try {
    const tensors = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    for (const [name, { dtype, shape }] of file.tensors) {
      const bytes = await file.read(name);
      const data = dtype === 'I32' ? Float32Array.from(new Int32Array(bytes.buffer)) : toFloat32(bytes, dtype as 'F32');
      tensors.set(name, { shape, data });
    }
    return tensors;
  } finally {
    await file.close();
  }
}

/** Every tensor of a model, whether it is in one file or in several. */
export async function readWeights(folder: string): Promise<Awaited<ReturnType<typeof readTensors>>> {
  const files = (await readdir(folder)).filter((name) => /^model.*\.safetensors$/.test(name));
  const parts = await Promise.all(files.map((name) => readTensors(join(folder, name))));
  return new Map(parts.flatMap((part) => [...part]));
}

/** The padded batch of a reference, row by row without its padding. */
export class ReferenceBatch {
  readonly rows: { ids: Int32Array; trained: Uint8Array }[];
  readonly width: number;

  constructor(batch: { input_ids: number[][]; labels: number[][]; attention_mask: number[][] }) {
    this.width = batch.input_ids[0]!.length;
    this.rows = batch.input_ids.map((ids, row) => {
      const mask = batch.attention_mask[row]!;
      const length = mask.lastIndexOf(1) + 1;
      if (mask.indexOf(0) !== -1 && mask.indexOf(0) < length) throw new Error('padding must lie at the end of a row');
      const labels = batch.labels[row]!.slice(0, length);
      return {
        ids: Int32Array.from(ids.slice(0, length)),
        trained: Uint8Array.from(labels, (label) => Number(label >= 0)),
      };
    });
  }

  static async read(folder: string): Promise<ReferenceBatch> {
    return new ReferenceBatch(await readJson(folder, 'batch.json'));
  }

  asTokenBatch(): TokenBatch {
    return tokenBatchOf(this.rows);
  }

  /** The logits of real tokens out of `[rows, width, vocab]`, one row after the other: `[tokens, vocab]`. */
  unpadded(logits: Float32Array, vocab: number): Float32Array {
    const kept = this.rows.map(({ ids }, row) => {
      const first = row * this.width * vocab;
      return logits.subarray(first, first + ids.length * vocab);
    });
    const all = new Float32Array(kept.reduce((sum, part) => sum + part.length, 0));
    let offset = 0;
    for (const part of kept) {
      all.set(part, offset);
      offset += part.length;
    }
    return all;
  }
}
