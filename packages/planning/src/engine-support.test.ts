import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import { expect, test } from 'vitest';
import { checkEngineSupports } from './engine-support.js';

const CASES = new URL('../../../test/fixtures/families/', import.meta.url).pathname;

test('engines for GPUs refuse a model with linear attention by name, and no other', async () => {
  const [linear, usual] = await Promise.all(
    ['qwen3_5', 'qwen3'].map((name) => readModelFolder(join(CASES, name, 'base'))),
  );
  for (const engine of ['cuda', 'tensorflow'] as const) {
    expect(() => checkEngineSupports(engine, linear!)).toThrow(
      `The engine ${engine} has no kernels for the linear attention of base (qwen3_5_text). Processors have: run a worker with ENGINE=cpu.`,
    );
    checkEngineSupports(engine, usual!);
  }
  checkEngineSupports('cpu', linear!);
});
