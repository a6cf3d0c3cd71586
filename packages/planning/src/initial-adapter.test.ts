import type { AdapterManifest, LoraSettings } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { initialAdapterFaults } from './initial-adapter.js';

const BASE = { name: 'tiny', weights_sha256: 'a'.repeat(64), architecture_sha256: 'b'.repeat(64) };
const LORA = { r: 4, alpha: 8, use_rslora: false, rank_pattern: {}, alpha_pattern: {} } as LoraSettings;

function faultsOf(changes: Partial<AdapterManifest['base_model']> = {}): string[] {
  const base_model = { ...BASE, family: 'llama', ...changes };
  const lora = { r: 4, alpha: 8, modules: [], rank_pattern: {}, alpha_pattern: {} };
  const initial = { id: 'ad_0', base_model, origin: { kind: 'imported' }, lora } as unknown as AdapterManifest;
  return initialAdapterFaults({ lora: LORA, base: BASE, targets: [] }, initial).map(({ message }) => message);
}

test.each([
  ['another model', { name: 'small' }, 'small'],
  ['other weights', { weights_sha256: 'c'.repeat(64) }, 'other weights of tiny'],
  ['another architecture', { architecture_sha256: 'c'.repeat(64) }, 'another config.json of tiny'],
])('an adapter of %s does not go with the base', (_, base, words) => {
  expect(faultsOf(base)).toEqual([expect.stringContaining(words)]);
});

test('an adapter of the same base goes with it', () => {
  expect(faultsOf()).toEqual([]);
});
