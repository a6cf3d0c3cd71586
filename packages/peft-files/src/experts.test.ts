import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LLAMA_NAMES } from '@lorasmith/model-folder';
import { openSafetensors, type TensorToWrite, toFloat32, writeSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PeftAdapter, PeftModule } from './peft-adapter.js';
import { type AdapterBase, readPeftFolder, writePeftFolder } from './peft-folder.js';
import { perExpert, withFusedExperts } from './per-expert.js';

const CASES = new URL('fixtures/experts/', import.meta.url).pathname;
const [EXPERTS, LAYERS] = [5, 2];
const at = (layer: number, parameter: string) => `model.layers.${layer}.mlp.experts.${parameter}`;
const keyOf = (path: string, matrix: 'A' | 'B') => `base_model.model.${path}.lora_${matrix}.weight`;
/** Keys in `two`: the wrapper of gate_up_proj is within that of down_proj. */
const GATE_UP_A = keyOf('model.layers.0.mlp.experts.base_layer', 'A');
const DOWN_A = keyOf('model.layers.0.mlp.experts', 'A');
const DOWN_B = keyOf('model.layers.0.mlp.experts', 'B');

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'experts-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** The properties of the models in the fixtures that writing needs. */
function mixture(): AdapterBase {
  const parameters = Array.from({ length: LAYERS }, (_, layer) =>
    ['gate_up_proj', 'down_proj'].map((parameter) => ({ name: at(layer, parameter) })),
  ).flat();
  const linears = Array.from({ length: LAYERS }, (_, layer) =>
    ['q_proj', 'k_proj', 'v_proj', 'o_proj'].map((part) => `model.layers.${layer}.self_attn.${part}`),
  ).flat();
  return {
    name: 'tiny',
    architecture: { kind: 'decoder', names: LLAMA_NAMES },
    linears: new Map(linears.map((name) => [name, { name, transposed: false }])),
    parameters,
  } as unknown as AdapterBase;
}

async function tensorsIn(path: string): Promise<Map<string, TensorToWrite & { values: Float32Array }>> {
  const file = await openSafetensors(path);
  const tensors = new Map();
  for (const { name, dtype, shape } of file.tensors.values()) {
    const data = await file.read(name);
    tensors.set(name, { name, dtype, shape, data, values: toFloat32(data, 'F32') });
  }
  await file.close();
  return tensors;
}

const configIn = async (path: string) => JSON.parse(await readFile(join(path, 'adapter_config.json'), 'utf8'));

/** A copy of the case `two` with other tensors and another config. */
async function changed(
  change: (tensors: Map<string, TensorToWrite>) => void,
  config: Record<string, unknown> = {},
): Promise<string> {
  await cp(join(CASES, 'two'), folder, { recursive: true });
  const path = join(folder, 'adapter_model.safetensors');
  const tensors = await tensorsIn(path);
  change(tensors);
  await writeSafetensors(path, tensors.values());
  await writeFile(
    join(folder, 'adapter_config.json'),
    JSON.stringify({ ...(await configIn(join(CASES, 'two'))), ...config }),
  );
  return folder;
}

/** `scale · B A` of each expert, `[experts, out, in]`, summed in float64. */
function updateOf({ a, b, rank, scale, inFeatures, outFeatures, experts = 1 }: PeftModule): number[] {
  return Array.from({ length: experts * outFeatures * inFeatures }, (_, index) => {
    const row = Math.floor(index / inFeatures); // of all experts
    const expert = Math.floor(row / outFeatures);
    let sum = 0;
    for (let k = 0; k < rank; k++) {
      sum += b[row * rank + k]! * a[(expert * rank + k) * inFeatures + (index % inFeatures)]!;
    }
    return scale * sum;
  });
}

async function expectUpdatesOf(name: string, { modules }: PeftAdapter): Promise<void> {
  const updates = await tensorsIn(join(CASES, name, 'updates.safetensors'));
  const adapted = [...modules].filter(([, { experts }]) => experts !== undefined);
  expect(adapted.map(([parameter]) => parameter).sort()).toEqual([...updates.keys()].sort());
  for (const [parameter, module] of adapted) {
    const { shape, values } = updates.get(parameter)!;
    expect([module.experts, module.outFeatures, module.inFeatures]).toEqual(shape);
    const ours = updateOf(module);
    const largest = Math.max(...values.map(Math.abs));
    expect(largest).toBeGreaterThan(0.1);
    // Float32 sums of up to four products.
    for (const [index, value] of values.entries()) expect(Math.abs(ours[index]! - value)).toBeLessThan(1e-6 * largest);
  }
}

describe('an adapter of experts of PEFT', () => {
  test.each(['two', 'one', 'patterns', 'gpt_oss'])("%s is read with PEFT's updates, whole tensors", async (name) => {
    await expectUpdatesOf(name, await readPeftFolder(join(CASES, name)));
  });

  test.each(['two', 'one', 'gpt_oss'])('%s is written with the same keys and bytes', async (name) => {
    const adapter = await readPeftFolder(join(CASES, name));
    await writePeftFolder(folder, adapter, mixture());
    const file = 'adapter_model.safetensors';
    expect(await tensorsIn(join(folder, file))).toEqual(await tensorsIn(join(CASES, name, file)));
    const [theirs, ours] = [await configIn(join(CASES, name)), await configIn(folder)];
    for (const field of ['target_modules', 'target_parameters']) expect(ours[field]).toEqual(theirs[field].toSorted());
    expect(ours).toMatchObject({ r: theirs.r, lora_alpha: theirs.lora_alpha, lora_dropout: 0 });
  });

  test('has ranks and alphas by the full names of parameters', async () => {
    const { modules } = await readPeftFolder(join(CASES, 'patterns'));
    const found = [...modules].map(([name, { rank, scale }]) => [name, { rank, scale }]);
    expect(Object.fromEntries(found)).toEqual({
      'model.layers.0.self_attn.o_proj': { rank: 4, scale: 8 / 2 },
      'model.layers.1.self_attn.o_proj': { rank: 4, scale: 8 / 2 },
      [at(0, 'down_proj')]: { rank: 2, scale: 5 / Math.sqrt(2) },
      [at(1, 'gate_up_proj')]: { rank: 3, scale: 8 / Math.sqrt(3) },
      [at(1, 'down_proj')]: { rank: 4, scale: 5 / 2 },
    });
  });

  test('is written with one rank and one scale, full names, and the same updates', async () => {
    await writePeftFolder(folder, await readPeftFolder(join(CASES, 'patterns')), mixture());
    const { target_parameters, r, rank_pattern } = await configIn(folder);
    const names = [at(0, 'down_proj'), at(1, 'down_proj'), at(1, 'gate_up_proj')];
    expect({ target_parameters, r, rank_pattern }).toEqual({ target_parameters: names, r: 4, rank_pattern: {} });
    await expectUpdatesOf('patterns', await readPeftFolder(folder));
  });
});

describe('with layers of each expert', () => {
  const IN_HALVES = { alternating: false };

  test('whose rows alternate has every second row of gate, and is read back to the same numbers', async () => {
    const adapter = await readPeftFolder(join(CASES, 'two'));
    const split = perExpert(adapter, { alternating: true });
    const { inFeatures, outFeatures, ...whole } = adapter.modules.get(at(0, 'gate_up_proj'))!;
    const all = updateOf({ ...whole, inFeatures, outFeatures });
    for (const [expert, index] of [
      [0, 0],
      [EXPERTS - 1, 1],
    ] as const) {
      const layer = split.modules.get(`model.layers.0.mlp.experts.${expert}.${['gate_proj', 'up_proj'][index]}`)!;
      const rows = Array.from({ length: outFeatures / 2 }, (_, i) => expert * outFeatures + 2 * i + index);
      const expected = rows.flatMap((row) => [...all.slice(row * inFeatures, (row + 1) * inFeatures)]);
      expect([...updateOf(layer)]).toEqual(expected);
    }
    expect(withFusedExperts(split, { alternating: true })).toEqual(adapter);
  });

  test.each(['two', 'one'])(
    '%s has the updates of its parameters, and is read back to the same numbers',
    async (name) => {
      const adapter = await readPeftFolder(join(CASES, name));
      const split = perExpert(adapter, IN_HALVES);
      const whole = adapter.modules.get(at(1, 'down_proj'))!;
      const size = whole.outFeatures * whole.inFeatures;
      for (let expert = 0; expert < EXPERTS; expert++) {
        const layer = split.modules.get(`model.layers.1.mlp.experts.${expert}.down_proj`)!;
        expect(updateOf(layer)).toEqual(updateOf(whole).slice(expert * size, (expert + 1) * size));
      }
      await writePeftFolder(folder, split, mixture());
      const config = await configIn(folder);
      expect(config).not.toHaveProperty('target_parameters');
      const read = await readPeftFolder(folder);
      expect([...read.modules.values()].every(({ experts }) => experts === undefined)).toBe(true);
      expect(withFusedExperts({ ...read, baseModelNameOrPath: null }, IN_HALVES)).toEqual({
        ...adapter,
        baseModelNameOrPath: null,
      });
    },
  );

  test('has the rows of gate before those of up', async () => {
    const adapter = await readPeftFolder(join(CASES, 'two'));
    const whole = adapter.modules.get(at(0, 'gate_up_proj'))!;
    const split = perExpert(adapter, IN_HALVES).modules;
    const rows = Array.from({ length: EXPERTS }, (_, expert) =>
      ['gate_proj', 'up_proj'].flatMap((part) => updateOf(split.get(`model.layers.0.mlp.experts.${expert}.${part}`)!)),
    );
    expect(rows.flat()).toEqual(updateOf(whole));
  });

  test('that were trained so, with their own A of gate and up, has twice the rank, as in PEFT', async () => {
    const read = await readPeftFolder(join(CASES, 'per-expert'));
    const adapter = withFusedExperts(read, IN_HALVES);
    expect(adapter.modules.get(at(0, 'gate_up_proj'))).toMatchObject({ rank: 4, scale: 4, experts: EXPERTS });
    expect(adapter.modules.get(at(0, 'down_proj'))).toMatchObject({ rank: 2, scale: 4, experts: EXPERTS });
    await expectUpdatesOf('per-expert', adapter);
  });

  test('has all experts, with all their projections and the same sizes', async () => {
    const read = await readPeftFolder(join(CASES, 'per-expert'));
    const name = (expert: number, part: string) => `model.layers.0.mlp.experts.${expert}.${part}`;
    for (const missing of [name(0, 'down_proj'), name(2, 'gate_proj'), name(4, 'up_proj')]) {
      const modules = new Map([...read.modules].filter(([module]) => module !== missing));
      const message = expect.stringContaining(`${missing} is missing`);
      expect(() => withFusedExperts({ ...read, modules }, IN_HALVES)).toThrow(
        expect.objectContaining({ code: 'invalid_adapter', param: missing, message }),
      );
    }
    const other = read.modules.get('model.layers.0.self_attn.q_proj')!;
    const modules = new Map(read.modules).set(name(3, 'up_proj'), { ...other, outFeatures: other.outFeatures });
    expect(() => withFusedExperts({ ...read, modules }, IN_HALVES)).toThrow(/experts\.3\.up_proj has other sizes/);
    const both = new Map(read.modules).set(at(0, 'down_proj'), { ...other, experts: EXPERTS });
    expect(() => withFusedExperts({ ...read, modules: both }, IN_HALVES)).toThrow(
      /down_proj is there, and so are layers/,
    );
  });
});

describe('an adapter of experts is refused, by name,', () => {
  const refused = async (param: string, text: string) => {
    const message = expect.stringContaining(text);
    await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'invalid_adapter', param, message });
  };

  test('with matrices of one parameter where the config names two', async () => {
    await changed((tensors) => {
      for (const matrix of ['A', 'B'] as const) tensors.delete(keyOf('model.layers.0.mlp.experts.base_layer', matrix));
    });
    await refused(GATE_UP_A, `is missing, although the config targets ${at(0, 'gate_up_proj')}`);
  });

  test('with matrices of two parameters where the config names one', async () => {
    await changed(() => {}, { target_parameters: ['mlp.experts.down_proj'] });
    await refused(GATE_UP_A, 'of a parameter that target_parameters in the config does not name');
  });

  test('without target_parameters', async () => {
    await changed(() => {}, { target_parameters: null });
    await refused(keyOf('model.layers.0.mlp.experts.base_layer', 'A'), 'does not name');
  });

  test('with an entry of target_parameters for which there are no matrices', async () => {
    const nothing = 'model.layers.7.mlp.experts.down_proj';
    await changed(() => {}, { target_parameters: ['gate_up_proj', 'down_proj', nothing] });
    await refused('target_parameters', `"${nothing}"`);
  });

  test('with rows that are no multiple of the rank', async () => {
    await changed(() => {}, { rank_pattern: { 'experts.down_proj': 3 } });
    await refused(DOWN_A, 'has 20 rows, no multiple of the rank 3');
  });

  test('with A and B of other sizes', async () => {
    await changed((tensors) => {
      const b = tensors.get(DOWN_B)!;
      tensors.set(DOWN_B, { ...b, shape: [b.shape[0]! * 2, b.shape[1]! / 2] });
    });
    await refused(DOWN_B, 'does not fit lora_A [20, 8]');
  });

  test('with other numbers of experts in the parameters of a module', async () => {
    await changed(() => {}, { rank_pattern: { 'experts.down_proj': 2 } });
    await refused(DOWN_A, 'has 10 experts of rank 2; its module has 5');
  });

  test('with a wrapper too many', async () => {
    const path = 'model.layers.0.mlp.experts.base_layer.base_layer';
    await changed((tensors) => {
      for (const matrix of ['A', 'B'] as const) {
        const name = keyOf(path, matrix);
        tensors.set(name, { ...tensors.get(keyOf('model.layers.0.mlp.experts', matrix))!, name });
      }
    });
    await refused(keyOf(path, 'A'), 'does not name');
  });

  test('with dropout, as in PEFT', async () => {
    await changed(() => {}, { lora_dropout: 0.1 });
    await refused('lora_dropout', 'is 0.1, which PEFT refuses with target_parameters');
  });
});
