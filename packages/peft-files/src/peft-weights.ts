import { ProductError } from '@lorasmith/contracts';
import { isFloatDtype, type SafetensorsFile, type TensorToWrite, toFloat32 } from '@lorasmith/safetensors';
import type { PeftModule } from './peft-adapter.js';
import type { PeftConfig } from './peft-config.js';
import { shownName } from './shown.js';

const PREFIX = 'base_model.model.';
const KEY = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/s;

/** The keys of one module's matrices in `adapter_model.safetensors`. */
export function peftKeys(moduleName: string): { a: string; b: string } {
  return { a: `${PREFIX}${moduleName}.lora_A.weight`, b: `${PREFIX}${moduleName}.lora_B.weight` };
}

/** Rank and sizes of every module, from the shapes alone. */
export type PeftShapes = Map<string, Pick<PeftModule, 'rank' | 'inFeatures' | 'outFeatures'>>;

/**
 * Checks that a file contains an A `[rank, in]` and a B `[out, rank]` for each of its modules, and no other tensors.
 *
 * @param rankOf - The rank in the config
 * @param others - Keys of tensors that are left out
 * @throws ProductError invalid_adapter naming the tensor
 */
export function peftShapes(
  file: SafetensorsFile,
  { rankOf }: Pick<PeftConfig, 'rankOf'>,
  others: ReadonlySet<string>,
): PeftShapes {
  const found = new Map<string, { a?: readonly number[]; b?: readonly number[] }>();
  for (const { name, dtype, shape } of file.tensors.values()) {
    if (others.has(name)) continue;
    const match = KEY.exec(name);
    if (match === null) {
      throw invalid(
        name,
        'is not the weight of a lora_A or lora_B; DoRA, biases, embeddings and saved modules are not supported',
      );
    }
    if (!isFloatDtype(dtype)) throw invalid(name, `is ${dtype}; only F32, F16 and BF16 are supported`);
    if (shape.length !== 2 || shape.some((size) => size < 1))
      throw invalid(name, `has the shape [${shape.join(', ')}]`);
    const module = found.get(match[1]!) ?? {};
    module[match[2] === 'A' ? 'a' : 'b'] = shape;
    found.set(match[1]!, module);
  }
  if (found.size === 0) throw new ProductError('invalid_adapter', 'adapter_model.safetensors contains no tensors.');
  const shapes: PeftShapes = new Map();
  for (const [moduleName, { a, b }] of found) {
    const keys = peftKeys(moduleName);
    if (a === undefined) throw invalid(keys.a, 'is missing');
    if (b === undefined) throw invalid(keys.b, 'is missing');
    if (a[0] !== b[1]) throw invalid(keys.b, `is [${b.join(', ')}], which does not fit lora_A [${a.join(', ')}]`);
    const rank = a[0]!;
    if (rank !== rankOf(moduleName))
      throw invalid(keys.a, `has rank ${rank}, but the config says ${rankOf(moduleName)}`);
    shapes.set(moduleName, { rank, inFeatures: a[1]!, outFeatures: b[0]! });
  }
  return shapes;
}

/** Reads a tensor of the file as float32. */
export async function readFloat32(file: SafetensorsFile, key: string): Promise<Float32Array> {
  return toFloat32(await file.read(key), file.tensors.get(key)!.dtype);
}

/** The tensors of a module in `adapter_model.safetensors`. */
export function tensorsOfModule(moduleName: string, module: PeftModule): TensorToWrite[] {
  const keys = peftKeys(moduleName);
  const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return [
    { name: keys.a, dtype: 'F32', shape: [module.rank, module.inFeatures], data: bytesOf(module.a) },
    { name: keys.b, dtype: 'F32', shape: [module.outFeatures, module.rank], data: bytesOf(module.b) },
  ];
}

function invalid(key: string, fault: string): ProductError {
  const shown = shownName(key);
  return new ProductError('invalid_adapter', `adapter_model.safetensors: ${shown} ${fault}.`, { param: shown });
}
