import { readConfig } from '@lorasmith/service-kit';
import { expect, test } from 'vitest';
import { WORKER_SETTINGS } from './settings.js';

test('GPU_LORA_PADDING is both or depth, and anything else is refused by its name', () => {
  const paddingOf = (environment: NodeJS.ProcessEnv) => readConfig(WORKER_SETTINGS, environment).gpuLoraPadding;
  expect(paddingOf({})).toBe('both');
  expect(paddingOf({ GPU_LORA_PADDING: 'depth' })).toBe('depth');
  expect(() => paddingOf({ GPU_LORA_PADDING: 'width' })).toThrow('GPU_LORA_PADDING "width": is neither both nor depth');
});
