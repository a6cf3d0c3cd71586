import { ProductError } from '@lorasmith/contracts';
import { expertParametersOf, hasSuffix, isExpertParameter } from '@lorasmith/model-folder';
import { isFloatDtype, type SafetensorsFile, type TensorToWrite, toFloat32 } from '@lorasmith/weight-files';
import { fromPeftB, moduleOf, toPeftB, wrappedModule, wrapperPaths } from './expert-wrappers.js';
import { type PeftModule, type PeftSizes, shownName } from './peft-adapter.js';
import type { PeftConfig } from './peft-config.js';

const PREFIX = 'base_model.model.';
const KEY = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/s;

/** The keys of the matrices at a path in `adapter_model.safetensors`. */
function peftKeys(path: string): { a: string; b: string } {
  return { a: `${PREFIX}${path}.lora_A.weight`, b: `${PREFIX}${path}.lora_B.weight` };
}

/** A module of a file. */
export interface PeftShape extends PeftSizes {
  /** The location of its matrices: its name, or of a parameter of experts the path of its wrapper. */
  path: string;
}

/** The modules of a file by name, from the shapes of its tensors alone. */
export type PeftShapes = Map<string, PeftShape>;

/** The shapes of the matrices at a path. */
type FoundShapes = Record<'a' | 'b', readonly number[]>;

/**
 * Checks that a file contains an A `[rank, in]` and a B `[out, rank]` for each of its modules, for each parameter of experts an
 * A `[experts · rank, in]` and a B `[out, rank · experts]`, and no other tensors.
 *
 * @param others - Keys of tensors that are left out
 * @throws ProductError invalid_adapter naming the tensor, or the field of the config
 */
export function peftShapes(
  file: SafetensorsFile,
  config: Pick<PeftConfig, 'rankOf' | 'targetParameters'>,
  others: ReadonlySet<string>,
): PeftShapes {
  const found = foundShapes(file, others);
  const parameters = expertParameters(found, config.targetParameters);
  const expertsOf = new Map<string, number>();
  const shapes: PeftShapes = new Map();
  for (const [path, { a, b }] of found) {
    const keys = peftKeys(path);
    const parameter = parameters.get(path);
    const name = parameter ?? path;
    const rank = config.rankOf(name);
    if (a[0] !== b[1]) throw invalid(keys.b, `is [${b.join(', ')}], which does not fit lora_A [${a.join(', ')}]`);
    const sizes = { path, rank, inFeatures: a[1]!, outFeatures: b[0]! };
    if (parameter === undefined) {
      if (a[0] !== rank) throw invalid(keys.a, `has rank ${a[0]}, but the config says ${rank}`);
      shapes.set(name, sizes);
      continue;
    }
    const experts = a[0]! / rank;
    if (!Number.isInteger(experts)) {
      throw invalid(keys.a, `has ${a[0]} rows, no multiple of the rank ${rank} that the config says`);
    }
    const module = moduleOf(parameter);
    const before = expertsOf.get(module) ?? experts;
    if (experts !== before) throw invalid(keys.a, `has ${experts} experts of rank ${rank}; its module has ${before}`);
    expertsOf.set(module, experts);
    shapes.set(name, { ...sizes, experts });
  }
  return shapes;
}

/** The shapes of both matrices at each path. */
function foundShapes(file: SafetensorsFile, others: ReadonlySet<string>): Map<string, FoundShapes> {
  const found = new Map<string, Partial<FoundShapes>>();
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
  for (const [path, { a, b }] of found) {
    const keys = peftKeys(path);
    if (a === undefined) throw invalid(keys.a, 'is missing');
    if (b === undefined) throw invalid(keys.b, 'is missing');
  }
  return found as Map<string, FoundShapes>;
}

/**
 * The parameters of experts by the paths of their wrappers. A path does not name its parameter: which one it is follows from
 * `target_parameters` alone, so each of its entries must select something, and all that it selects must be there.
 *
 * @throws ProductError invalid_adapter
 */
function expertParameters(
  found: ReadonlyMap<string, FoundShapes>,
  targetParameters: readonly string[],
): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const path of found.keys()) {
    const module = wrappedModule(path);
    const all = expertParametersOf(module);
    if (all.length === 0 && module === path && !isExpertParameter(path)) continue;
    const targeted = all.filter((name) => targetParameters.some((target) => hasSuffix(name, target)));
    for (const [index, wrapper] of wrapperPaths(targeted).entries()) {
      if (!found.has(wrapper)) {
        throw invalid(peftKeys(wrapper).a, `is missing, although the config targets ${shownName(targeted[index]!)}`);
      }
      parameters.set(wrapper, targeted[index]!);
    }
    if (parameters.has(path)) continue;
    throw invalid(peftKeys(path).a, 'is of a parameter that target_parameters in the config does not name');
  }
  const names = [...parameters.values()];
  const unmatched = targetParameters.find((target) => !names.some((name) => hasSuffix(name, target)));
  if (unmatched === undefined) return parameters;
  const message = `adapter_config.json: target_parameters has ${JSON.stringify(unmatched)}, but adapter_model.safetensors has no matrices of such a parameter of experts.`;
  throw new ProductError('invalid_adapter', message, { param: 'target_parameters' });
}

/** Reads the matrices of a module. */
export async function readModule(
  file: SafetensorsFile,
  { path, ...sizes }: PeftShape,
): Promise<Omit<PeftModule, 'scale'>> {
  const keys = peftKeys(path);
  const a = await readFloat32(file, keys.a);
  const b = await readFloat32(file, keys.b);
  const { experts } = sizes;
  return { a, b: experts === undefined ? b : fromPeftB(b, { ...sizes, experts }), ...sizes };
}

async function readFloat32(file: SafetensorsFile, key: string): Promise<Float32Array> {
  return toFloat32(await file.read(key), file.tensors.get(key)!.dtype);
}

/** The tensors of an adapter in `adapter_model.safetensors`, module by module. */
export function tensorsOf(modules: ReadonlyMap<string, PeftModule>): TensorToWrite[] {
  return [...modules].flatMap(([name, module]) => tensorsOfModule(pathOf(name, modules), module));
}

/** The location of a module's matrices in a file with these modules. */
function pathOf(name: string, modules: ReadonlyMap<string, PeftModule>): string {
  if (!isExpertParameter(name)) return name;
  const nested = expertParametersOf(moduleOf(name)).filter((parameter) => modules.has(parameter));
  return wrapperPaths(nested)[nested.indexOf(name)]!;
}

function tensorsOfModule(path: string, { a, b, rank, inFeatures, outFeatures, experts }: PeftModule): TensorToWrite[] {
  const keys = peftKeys(path);
  const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const rows = rank * (experts ?? 1);
  const ofB = () => bytesOf(experts === undefined ? b : toPeftB(b, { experts, outFeatures, rank }));
  return [
    { name: keys.a, dtype: 'F32', shape: [rows, inFeatures], data: bytesOf(a) },
    { name: keys.b, dtype: 'F32', shape: [outFeatures, rows], data: ofB },
  ];
}

function invalid(key: string, fault: string): ProductError {
  const shown = shownName(key);
  return new ProductError('invalid_adapter', `adapter_model.safetensors: ${shown} ${fault}.`, { param: shown });
}
