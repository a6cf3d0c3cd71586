import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { writeSafetensors } from '@lorasmith/safetensors';

/** A tensor of a model, without `model.` before its name. */
export type TensorShape = [name: string, shape: number[]];

/** Writes a base model with arbitrary weights in float32 and removes it after `use`. */
export async function withProbeFolder<Result>(
  config: Readonly<Record<string, unknown>>,
  shapes: readonly TensorShape[],
  use: (folder: ModelFolder) => Promise<Result>,
): Promise<Result> {
  const path = await mkdtemp(join(tmpdir(), 'lorasmith-probe-'));
  try {
    await writeFile(join(path, 'config.json'), JSON.stringify(config));
    const tensors = shapes.map(([name, shape]) => ({
      ...{ name: `model.${name}`, dtype: 'F32' as const, shape },
      data: async () => weights(shape),
    }));
    await writeSafetensors(join(path, 'model.safetensors'), tensors);
    return await use(await readModelFolder(path));
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

/** Small numbers that differ; their values do not matter. */
function weights(shape: number[]): Uint8Array {
  const count = shape.reduce((product, dimension) => product * dimension, 1);
  return new Uint8Array(Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 1009) / 20_000 - 0.025).buffer);
}
