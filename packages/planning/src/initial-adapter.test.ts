import type { AdapterManifest, LoraSettings } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { initialAdapterFaults } from './initial-adapter.js';

const BASE = { name: 'tiny', weights_sha256: 'a'.repeat(64), architecture_sha256: 'b'.repeat(64) };
const LORA = { r: 4, alpha: 8, use_rslora: false, rank_pattern: {}, alpha_pattern: {} } as LoraSettings;

function faultsOf(base: Partial<AdapterManifest['base_model']>): string[] {
  const base_model = { name: 'tiny', family: 'llama', weights_sha256: 'a'.repeat(64), ...base };
  const lora = { r: 4, alpha: 8, modules: [], rank_pattern: {}, alpha_pattern: {} };
  const initial = { id: 'ad_0', base_model, settings: null, lora } as unknown as AdapterManifest;
  return initialAdapterFaults({ lora: LORA, base: BASE, targets: [] }, initial).map(({ message }) => message);
}

test.each([
  ['another model', { name: 'small' }, 'small'],
  ['other weights', { weights_sha256: 'c'.repeat(64) }, 'other weights of tiny'],
  ['another architecture', { architecture_sha256: 'c'.repeat(64) }, 'another config.json of tiny'],
])('an adapter of %s does not go with the base', (_, base, words) => {
  expect(faultsOf(base)).toEqual([expect.stringContaining(words)]);
});

test('one of the same base does, also where its manifest is too old to tell of the architecture', () => {
  expect(faultsOf({ architecture_sha256: 'b'.repeat(64) })).toEqual([]);
  expect(faultsOf({})).toEqual([]);
});
