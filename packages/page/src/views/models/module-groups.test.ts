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
