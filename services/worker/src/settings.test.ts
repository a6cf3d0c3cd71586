import { readConfig } from '@lorasmith/service-kit';
import { expect, test } from 'vitest';
import { WORKER_SETTINGS } from './settings.js';

test('GPU_LORA_MARGIN is both or depth, and anything else is refused by its name', () => {
  const marginOf = (environment: NodeJS.ProcessEnv) => readConfig(WORKER_SETTINGS, environment).gpuLoraMargin;
  expect(marginOf({})).toBe('both');
  expect(marginOf({ GPU_LORA_MARGIN: 'depth' })).toBe('depth');
  expect(() => marginOf({ GPU_LORA_MARGIN: 'width' })).toThrow('GPU_LORA_MARGIN "width": is neither both nor depth');
});
