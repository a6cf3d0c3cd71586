import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ConfigFields } from '../packages/model-folder/src/config-fields.js';
import { FAMILIES } from '../packages/model-folder/src/families/family-registry.js';
import { fromFloat32, writeSafetensors } from '../packages/safetensors/src/index.js';
import { SeededRandom } from '../packages/seeded-random/src/index.js';

export interface RandomModelOptions {
  /** Which tensors the family finds where it can read several forms of files. @defaultValue any that it asks for */
  hasTensor?: (name: string) => boolean;
  /** @defaultValue F32 */
  dtype?: 'F32' | 'BF16';
}

/** Of a model whose files have each expert by itself, and not those of a layer in one tensor. */
export const eachByItself = (name: string) => !/experts\.(gate_up|down)_proj$/.test(name);

/** Writes config.json and random weights: all tensors that the family of the config requires. */
export async function writeRandomModel(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  { hasTensor = () => true, dtype = 'F32' }: RandomModelOptions = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  const own = FAMILIES.get(config.model_type as string)!;
  const fields = new ConfigFields(config as never, 'config.json');
  const architecture = own.readArchitecture({ config: fields, generation: undefined, hasTensor });
  const random = new SeededRandom(7, 'weights of a published structure');
  const tensors = own.layout(architecture).tensors.map(({ name, shape, mxfp4 }) => {
    const count = shape.reduce((product, length) => product * length, 1);
    if (mxfp4 !== undefined) {
      // Codes have all values; scales are such that weights are about as large as others.
      const least = mxfp4.numbers === 0 ? 119 : 0;
      const bytes = Uint8Array.from({ length: count }, () => least + random.next() * (least === 0 ? 256 : 3));
      return { name, dtype: 'U8' as const, shape: [...shape], data: () => bytes };
    }
    const numbers = Float32Array.from({ length: count }, () =>
      shape.length === 1 ? 0.5 + 0.1 * random.next() : (random.next() - 0.5) / Math.sqrt(shape.at(-1)!),
    );
    return { name, dtype, shape: [...shape], data: () => fromFloat32(numbers, dtype) };
  });
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors, { format: 'pt' });
}
