import { fileURLToPath } from 'node:url';
import type { SessionModelSpec } from '@lorasmith/contracts';
import { type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { beforeAll, expect, test } from 'vitest';
import { aMachine } from '../../../test/a-machine.js';
import { availableMemory } from './estimate/estimate-job.js';
import { decoderMemory } from './estimate/estimate-memory.js';
import { type PlanSessionOptions, planSession } from './plan-session.js';

const fixture = (path: string) => fileURLToPath(new URL(`../../../test/fixtures/${path}`, import.meta.url));
const SPEC: SessionModelSpec = {
  base_model: 'tiny',
  rank: 8,
  seed: 0,
  train_attn: true,
  train_mlp: true,
  train_unembed: true,
};

let model: ModelFolder;
beforeAll(async () => {
  model = await readModelFolder(fixture('reference/llama-tied/base'));
});

const plan = (spec: Partial<SessionModelSpec> = {}, options: Partial<PlanSessionOptions> = {}) =>
  planSession({ model, precision: 'float32', machine: null, ...options, spec: { ...SPEC, ...spec } });

const lastParts = ({ targets }: ReturnType<typeof plan>) =>
  [...new Set(targets.map(({ name }) => name.split('.').at(-1)!))].sort();

test('attention, MLPs and the output head are chosen each by itself, with alpha 32', () => {
  const [attention, mlp, head] = [
    ['k_proj', 'o_proj', 'q_proj', 'v_proj'],
    ['down_proj', 'gate_proj', 'up_proj'],
    ['lm_head'],
  ];
  const none = { train_attn: false, train_mlp: false, train_unembed: false };
  expect(lastParts(plan({ ...none, train_attn: true }))).toEqual(attention);
  expect(lastParts(plan({ ...none, train_mlp: true }))).toEqual(mlp);
  expect(lastParts(plan({ ...none, train_unembed: true }))).toEqual(head);
  const { targets } = plan();
  expect(targets).toHaveLength(3 * 7 + 1);
  expect(targets.every(({ rank, scale }) => rank === 8 && scale === 4)).toBe(true);
});

test.each([
  ['families/qwen3_moe-experts/base', ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj']],
  ['families/gpt2/base', ['c_attn', 'c_fc', 'c_proj']],
  [
    'families/deepseek_v3/base',
    ['down_proj', 'gate_proj', 'kv_a_proj_with_mqa', 'kv_b_proj', 'o_proj', 'q_a_proj', 'q_b_proj', 'up_proj'],
  ],
])('the layers of %s are chosen by what they are, without routers', async (path, names) => {
  const of = plan({ train_unembed: false }, { model: await readModelFolder(fixture(path)) });
  expect(lastParts(of)).toEqual(names);
  expect(of.targets.some(({ name }) => /router|mlp\.gate$/.test(name))).toBe(false);
});

test('what trains nothing is refused', () => {
  const nothing = { train_attn: false, train_mlp: false, train_unembed: false };
  expect(() => plan(nothing)).toThrow(expect.objectContaining({ code: 'invalid_job' }));
});

test('its memory is that of passes, with layers computed again where it would not fit otherwise', () => {
  const machine = aMachine({ memory_bytes: 64e9 });
  const { needs, recomputedLayers } = plan({}, { machine });
  expect(recomputedLayers).toBe(0);
  expect(needs).toMatchObject({
    load: { mostTokens: machine.pass_tokens, mostLabels: machine.pass_tokens, longestRow: 256 },
    evaluation: null,
    settings: { optimizer: 'adamw', dropout: 0, sampleCacheBytes: 0 },
  });
  const needed = machine.base_memory_bytes + decoderMemory(needs!);
  const tight = aMachine({ memory_bytes: Math.ceil((needed - 1e5) / 0.95) });
  expect(availableMemory(tight)).toBeLessThan(needed);
  expect(plan({}, { machine: tight }).recomputedLayers).toBeGreaterThan(0);
  const small = aMachine({ memory_bytes: machine.base_memory_bytes });
  expect(() => plan({}, { machine: small })).toThrow(expect.objectContaining({ code: 'does_not_fit' }));
});
