import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { LAYER_FIELDS, PART_FIELDS } from './lora.js';

test('the layout has its fields in the order of native/ops/lora/lora_parts.h', async () => {
  const header = await readFile(new URL('../../native/ops/lora/lora_parts.h', import.meta.url), 'utf8');
  const namesOf = (name: string) => {
    const [, list = ''] = new RegExp(`enum ${name} \\{([^}]*)\\}`).exec(header) ?? [];
    return list.split(',').map((entry) => entry.trim());
  };
  const native = (fields: readonly string[]) => fields.map((field) => `k${field[0]!.toUpperCase()}${field.slice(1)}`);
  expect(namesOf('PartField')).toEqual([...native(PART_FIELDS), 'kPartFields']);
  expect(namesOf('LayerField')).toEqual([...native(LAYER_FIELDS), 'kLayerFields']);
});
