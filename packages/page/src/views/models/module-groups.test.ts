import { expect, test } from 'vitest';
import { moduleGroups } from './module-groups.js';

const layer = (name: string, in_features: number, out_features: number) => ({ name, in_features, out_features });

test('layers are grouped by the last part of their names', () => {
  const groups = moduleGroups([
    layer('model.layers.0.self_attn.q_proj', 8, 8),
    layer('model.layers.0.mlp.down_proj', 16, 8),
    layer('model.layers.1.self_attn.q_proj', 8, 4),
    layer('model.layers.1.mlp.down_proj', 16, 8),
    layer('0', 3, 2),
  ]);
  const q = { name: 'q_proj', layers: 2, parametersPerRank: 28 };
  expect(groups).toEqual([
    {
      ...q,
      shapes: [
        [8, 8],
        [8, 4],
      ],
    },
    { name: 'down_proj', layers: 2, shapes: [[16, 8]], parametersPerRank: 48 },
    { name: '0', layers: 1, shapes: [[3, 2]], parametersPerRank: 5 },
  ]);
  expect(moduleGroups([])).toEqual([]);
});

test('parameters of experts are grouped by the names that target_parameters may have, and count all experts', () => {
  const experts = ['gate_up_proj', 'down_proj'].flatMap((name) =>
    [0, 1].map((index) => ({ ...layer(`model.layers.${index}.mlp.experts.${name}`, 8, 4), experts: 5 })),
  );
  const group = { layers: 2, shapes: [[8, 4]], parametersPerRank: 120 };
  expect(moduleGroups(experts)).toEqual([
    { name: 'mlp.experts.gate_up_proj', ...group },
    { name: 'mlp.experts.down_proj', ...group },
  ]);
});
