import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type ExpertParameter,
  type LinearLayer,
  type ModelFolder,
  QuantizedOnLoad,
  readModelFolder,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import {
  cast,
  chooseKernels,
  type FloatDType,
  liveTensorCount,
  rowSections,
  scope,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { toFloat32 as numbersOf, openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { eachByItself, SMALL_MIXTURE, writeRandomModel } from '../../../test/random-model.js';
import { usualCases } from '../../../test/usual-cases.js';
import { DenseExperts, type FrozenExperts, PackedExperts } from './frozen-experts.js';
import { QuantizedLinear } from './frozen-linear.js';
import { built, loadListed } from './loading/listed.js';
import { WeightList } from './loading/weight-list.js';

const kernels = chooseKernels('fused');

const EXPERTS = 3;
// Gate has more than 256 blocks, whose scales share one.
const QWEN = { ...SMALL_MIXTURE, moe_intermediate_size: 320, num_experts: EXPERTS };
const GPT_OSS = { ...SMALL_MIXTURE, model_type: 'gpt_oss', intermediate_size: 96, num_local_experts: EXPERTS };

/** The layout of the experts in the files. */
const FORMS = {
  'each by itself': { config: QWEN, hasTensor: eachByItself },
  fused: { config: QWEN, hasTensor: () => true },
  'fused and transposed': { config: GPT_OSS, hasTensor: () => false },
};

let path: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'experts-'));
});
afterEach(() => rm(path, { recursive: true }));

async function modelOf(form: keyof typeof FORMS, dtype: 'F32' | 'BF16' = 'BF16'): Promise<ModelFolder> {
  const { config, hasTensor } = FORMS[form];
  await writeRandomModel(join(path, form), config, { hasTensor, dtype });
  return withBaseQuantization(await readModelFolder(join(path, form)), 'nf4');
}

async function loaded(folder: ModelFolder, parameter: ExpertParameter, dtype: FloatDType): Promise<FrozenExperts> {
  return await loadListed(folder, new WeightList(folder, dtype, kernels).experts(parameter), {});
}

/** The numbers of each expert, `[out, in]`. */
function decoded(experts: FrozenExperts): Float32Array[] {
  const { count, outFeatures } = experts;
  return Array.from({ length: count }, (_, index) =>
    scope(() => toFloat32Array(experts.weightRows(index, 0, outFeatures))),
  );
}

/** The matrices of a parameter as its files have them, expert after expert: its tensors, or the parts of one. */
async function matricesOf(folder: ModelFolder, { tensors, experts, projections = 1 }: ExpertParameter) {
  const file = await openSafetensors(join(folder.path, 'model.safetensors'));
  const all = await Promise.all(
    tensors.map(async ({ name, shape }) => {
      const count = shape.length === 3 ? experts * projections : 1;
      const columns = shape.at(-1)!;
      const numbers = numbersOf(await file.read(name), file.tensors.get(name)!.dtype as 'BF16');
      const size = numbers.length / count;
      return Array.from({ length: count }, (_, i) => {
        return { shape: [size / columns, columns], numbers: numbers.slice(i * size, (i + 1) * size) };
      });
    }),
  );
  await file.close();
  return all.flat();
}

/** The numbers of matrices as linear layers that are quantized on load, `[out, in]` each. */
async function asLinearLayers(matrices: Awaited<ReturnType<typeof matricesOf>>, dtype: FloatDType) {
  const twin = join(path, 'linears');
  const tensors = matrices.map(({ shape, numbers }, i) => {
    return { name: `${i}`, dtype: 'F32' as const, shape, data: () => new Uint8Array(numbers.buffer) };
  });
  await mkdir(twin, { recursive: true });
  await writeSafetensors(join(twin, 'model.safetensors'), tensors);
  const file = await openSafetensors(join(twin, 'model.safetensors'));
  const located = [...file.tensors].map(([name, entry]) => [name, { file: 'model.safetensors', entry }] as const);
  await file.close();
  const bytes = (await readFile(join(twin, 'model.safetensors'))).length;
  const folder = {
    ...{ path: twin, name: 'linears', weightBytes: bytes, baseQuantization: 'nf4' },
    files: [{ name: 'model.safetensors', path: join(twin, 'model.safetensors'), bytes }],
    tensors: new Map(located),
    quantized: new Map(matrices.map(({ shape }, i) => [`${i}`, new QuantizedOnLoad(shape as [number, number])])),
  } as unknown as ModelFolder;
  const layers = matrices.map(({ shape: [outFeatures, inFeatures] }, i): LinearLayer => {
    const name = `${i}`;
    return { name, weight: name, bias: null, transposed: false, outFeatures: outFeatures!, inFeatures: inFeatures! };
  });
  const list = new WeightList(folder, dtype, kernels);
  const linears = layers.map((layer) => list.linearGroup([layer]));
  const groups = await loadListed(
    folder,
    built({ linears }, (read) => read.linears),
    {},
  );
  return groups.map(({ linear }) => {
    expect(linear).toBeInstanceOf(QuantizedLinear);
    const numbers = scope(() => toFloat32Array(linear.weightRows(0, linear.outFeatures)));
    linear.dispose();
    return numbers;
  });
}

describe.each(usualCases(Object.keys(FORMS) as (keyof typeof FORMS)[], 2))(
  'experts that are %s in the files',
  (form) => {
    test.each(['float32', 'bfloat16'] as const)(
      'have the numbers of linear layers that are quantized when they are loaded, in %s',
      async (dtype) => {
        const folder = await modelOf(form);
        const before = liveTensorCount();
        for (const parameter of folder.expertParameters.values()) {
          const experts = await loaded(folder, parameter, dtype);
          expect(experts).toBeInstanceOf(PackedExperts);
          const ofExperts = decoded(experts);
          const perExpert =
            parameter.tensors.length === 1 ? (parameter.projections ?? 1) : parameter.tensors.length / EXPERTS;
          const linears = await asLinearLayers(await matricesOf(folder, parameter), dtype);
          for (const [index, numbers] of ofExperts.entries()) {
            const own = linears.slice(index * perExpert, (index + 1) * perExpert).flatMap((one) => [...one]);
            const { inFeatures, outFeatures, transposed } = parameter;
            const expected = Float32Array.from(own, (number, i) => {
              return transposed ? own[(i % inFeatures) * outFeatures + Math.floor(i / inFeatures)]! : number;
            });
            expect(numbers).toEqual(expected);
          }
          experts.dispose();
        }
        expect(liveTensorCount()).toBe(before);
      },
    );

    test('compute with the bits of decoded ones', async () => {
      const folder = await modelOf(form);
      for (const dtype of ['float32', 'bfloat16'] as const) {
        for (const parameter of folder.expertParameters.values()) {
          const experts = await loaded(folder, parameter, dtype);
          const { inFeatures, outFeatures, transposed = false } = parameter;
          const numbers = decoded(experts).flatMap((one) =>
            Array.from(one, (number, i) =>
              transposed ? one[(i % outFeatures) * inFeatures + Math.floor(i / outFeatures)]! : number,
            ),
          );
          const shape = transposed ? [EXPERTS, inFeatures, outFeatures] : [EXPERTS, outFeatures, inFeatures];
          scope(() => {
            const sections = rowSections(Int32Array.of(0, 5, 5, 22));
            const inDtype = (rows: number, columns: number, seed: number) =>
              cast(tensorOf(normalNumbers(rows * columns, seed), [rows, columns]), dtype);
            const [x, gradient] = [inDtype(22, inFeatures, 1), inDtype(22, outFeatures, 2)];
            const dense = new DenseExperts(kernels, cast(tensorOf(Float32Array.from(numbers), shape), dtype), {
              transposed,
            });
            expect(toFloat32Array(experts.forward(x, sections))).toEqual(toFloat32Array(dense.forward(x, sections)));
            expect(toFloat32Array(experts.backwardInput(gradient, sections))).toEqual(
              toFloat32Array(dense.backwardInput(gradient, sections)),
            );
            const rows = scope(() => toFloat32Array(experts.weightRows(1, 7, 3)));
            expect(rows).toEqual(decoded(experts)[1]!.slice(7 * inFeatures, 10 * inFeatures));
          });
          experts.dispose();
        }
      }
    });
  },
);

test('experts have the same numbers whether they are fused in the files or each by itself', async () => {
  const each = await modelOf('each by itself');
  // The same numbers in the other form.
  const fused = join(path, 'same-fused');
  await writeRandomModel(fused, QWEN, { dtype: 'BF16' });
  const file = await openSafetensors(join(each.path, 'model.safetensors'));
  const { tensors } = await readModelFolder(fused);
  const joined = [...tensors.values()].map(({ entry: { name, dtype, shape } }) => {
    const parts = each.expertParameters.get(name)?.tensors.map((tensor) => tensor.name) ?? [name];
    const data = async () => new Uint8Array(Buffer.concat(await Promise.all(parts.map((part) => file.read(part)))));
    return { name, dtype, shape: [...shape], data };
  });
  await writeSafetensors(join(path, 'joined.safetensors'), joined);
  await file.close();
  await writeFile(join(fused, 'model.safetensors'), await readFile(join(path, 'joined.safetensors')));
  const other = withBaseQuantization(await readModelFolder(fused), 'nf4');
  for (const [name, parameter] of each.expertParameters) {
    const [ofEach, ofFused] = await Promise.all([
      loaded(each, parameter, 'float32'),
      loaded(other, other.expertParameters.get(name)!, 'float32'),
    ]);
    expect(decoded(ofFused)).toEqual(decoded(ofEach));
    ofEach.dispose();
    ofFused.dispose();
  }
});

/** Writes experts in 8 bits, but those that `isDense` names, and gives the numbers of each tensor. */
async function withScaledExperts(isDense: (tensor: string) => boolean) {
  const folder = join(path, 'fp8');
  const block = 128;
  const quantization_config = { quant_method: 'fp8', weight_block_size: [block, block] };
  await writeRandomModel(folder, QWEN, FORMS['each by itself']);
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...QWEN, quantization_config }));
  const file = await openSafetensors(join(folder, 'model.safetensors'));
  const expected = new Map<string, Float32Array>();
  const tensors = await Promise.all(
    [...file.tensors.values()].map(async ({ name, dtype, shape }) => {
      const data = await file.read(name);
      if (!name.includes('.experts.') || isDense(name)) {
        expected.set(name, numbersOf(data, dtype));
        return [{ name, dtype, shape: [...shape], data: () => data }];
      }
      const [rows, columns] = shape as [number, number];
      // All bytes but NaN.
      const bytes = Uint8Array.from({ length: rows * columns }, (_, i) => (i % 128 === 127 ? 0 : (i * 37) % 256));
      for (const [i, byte] of bytes.entries()) if (byte % 128 === 127) bytes[i] = 1;
      const across = Math.ceil(columns / block);
      const down = Math.ceil(rows / block);
      const scales = normalNumbers(down * across, rows).map(Math.abs);
      expected.set(
        name,
        Float32Array.from(bytes, (byte, i) => {
          const [exponent, mantissa] = [(byte >> 3) & 15, byte & 7];
          const size = exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10);
          const scale = scales[Math.floor(i / columns / block) * across + Math.floor((i % columns) / block)]!;
          return (byte < 128 ? size : -size) * scale;
        }),
      );
      const ofScales = { name: `${name}_scale_inv`, dtype: 'F32' as const, shape: [down, across] };
      return [
        { name, dtype: 'F8_E4M3' as const, shape: [rows, columns], data: () => bytes },
        { ...ofScales, data: () => new Uint8Array(scales.buffer) },
      ];
    }),
  );
  await file.close();
  await writeSafetensors(join(folder, 'model.safetensors'), tensors.flat());
  return { folder: await readModelFolder(folder), expected };
}

describe('experts in 8 bits', () => {
  test.each([
    ['stay so in memory', () => false, PackedExperts],
    ['are decoded where one of a layer is not', (name: string) => name.endsWith('1.up_proj.weight'), DenseExperts],
  ] as const)('%s, and have the numbers of their bytes and scales', async (_, isDense, kind) => {
    const { folder, expected } = await withScaledExperts(isDense);
    const [gateUp, down] = [...folder.expertParameters.values()] as [ExpertParameter, ExpertParameter];
    for (const [parameter, stored] of [
      [gateUp, kind],
      [down, PackedExperts],
    ] as const) {
      const experts = await loaded(folder, parameter, 'float32');
      expect(experts).toBeInstanceOf(stored);
      const numbers = parameter.tensors.flatMap(({ name }) => [...expected.get(name)!]);
      expect(decoded(experts).flatMap((one) => [...one])).toEqual(numbers);
      experts.dispose();
    }
    expect(folder.dtype).toBe('fp8');
  });
});

test('experts that bitsandbytes has quantized stay so, unless one matrix of a layer is not', async () => {
  const [whole, mixed] = [
    fileURLToPath(new URL('../../../test/fixtures/quantized/nf4-experts/base', import.meta.url)),
    join(path, 'mixed'),
  ];
  const dense = 'model.layers.0.mlp.experts.2.up_proj.weight';
  const folder = await readModelFolder(whole);
  const [gateUp, down] = [...folder.expertParameters.values()] as [ExpertParameter, ExpertParameter];
  const original = await loaded(folder, gateUp, 'float32');
  expect(original).toBeInstanceOf(PackedExperts);
  const numbers = decoded(original);
  original.dispose();
  // As dynamic uploads, which leave what matters most.
  const file = await openSafetensors(join(whole, 'model.safetensors'));
  const kept = numbers[2]!.slice(64 * 64);
  const tensors = await Promise.all(
    [...file.tensors.values()].flatMap(({ name, dtype, shape }) => {
      if (name === dense)
        return { name, dtype: 'F32' as const, shape: [64, 64], data: () => new Uint8Array(kept.buffer) };
      if (name.startsWith(dense)) return [];
      return { name, dtype, shape: [...shape], data: () => file.read(name) };
    }),
  );
  await mkdir(mixed);
  await writeSafetensors(join(mixed, 'model.safetensors'), tensors);
  await file.close();
  await cp(join(whole, 'config.json'), join(mixed, 'config.json'));
  const other = await readModelFolder(mixed);
  const before = liveTensorCount();
  const experts = await loaded(other, gateUp, 'float32');
  expect(experts).toBeInstanceOf(DenseExperts);
  expect(decoded(experts)).toEqual(numbers);
  experts.dispose();
  const ofDown = await loaded(other, down, 'float32');
  expect(ofDown).toBeInstanceOf(PackedExperts);
  ofDown.dispose();
  expect(liveTensorCount()).toBe(before);
});

test('experts with a number that is not finite are refused by the name of their tensor', async () => {
  const folder = await modelOf('fused');
  const parameter = [...folder.expertParameters.values()].at(-1)!;
  const { name } = parameter.tensors[0]!;
  const file = join(folder.path, 'model.safetensors');
  const opened = await openSafetensors(file);
  const { byteOffset, byteLength } = opened.tensors.get(name)!;
  await opened.close();
  const bytes = await readFile(file);
  bytes.writeUInt16LE(0x7f80, byteOffset + byteLength - 2);
  await writeFile(file, bytes);
  const before = liveTensorCount();
  await expect(loaded(folder, parameter, 'float32')).rejects.toMatchObject({
    code: 'model_file_corrupt',
    message: expect.stringContaining(`tensor ${name} has a number that is not finite`),
  });
  expect(liveTensorCount()).toBe(before);
});
