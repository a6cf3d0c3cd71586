import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readModelFolder } from '../model-folder.js';
import { checkDecays, checkFactor } from './model-weights.js';

test('a decay whose exponential overflows, or is no number, is named with its file, tensor and head', async () => {
  const base = new URL('../../../../test/fixtures/families/qwen3_5-text/base', import.meta.url).pathname;
  const folder = await readModelFolder(base);
  const name = 'model.layers.0.linear_attn.A_log';
  checkDecays(folder, name, Float32Array.of(-4, 2.8, Number.NEGATIVE_INFINITY, 88));
  for (const wrong of [89, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => checkDecays(folder, name, Float32Array.of(0, 0, wrong, 0))).toThrow(
      `${join('base', 'model.safetensors')}: tensor ${name} has ${wrong} for head 2, whose exponential is not finite.`,
    );
  }
});

test('a factor that is not finite is named with its file and tensor', async () => {
  const base = new URL('../../../../test/fixtures/families/gemma4-text/base', import.meta.url).pathname;
  const folder = await readModelFolder(base);
  const name = 'model.layers.0.layer_scalar';
  checkFactor(folder, name, -0.5);
  for (const wrong of [Number.NaN, Number.NEGATIVE_INFINITY]) {
    expect(() => checkFactor(folder, name, wrong)).toThrow(
      `${join('base', 'model.safetensors')}: tensor ${name} is ${wrong}, but must be finite.`,
    );
  }
});
