import { join } from 'node:path';
import { type DecoderArchitecture, readModelFolder } from '@lorasmith/model-folder';
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

test('engines for GPUs refuse heads that are larger than their kernels have, of any layer', async () => {
  const gemma = await readModelFolder(join(CASES, 'gemma4-text', 'base'));
  const architecture = gemma.architecture as DecoderArchitecture;
  const withHeads = (headDim: number) => {
    const layers = architecture.attention.layers.map((layer) =>
      layer.window === null ? { ...layer, headDim } : layer,
    );
    return { ...gemma, architecture: { ...architecture, attention: { ...architecture.attention, layers } } };
  };
  for (const engine of ['cuda', 'tensorflow'] as const) {
    expect(() => checkEngineSupports(engine, withHeads(512))).toThrow(
      `The engine ${engine} has no kernels for the attention with heads of 512 numbers of base (gemma4_text). Processors have: run a worker with ENGINE=cpu.`,
    );
    checkEngineSupports(engine, withHeads(256));
  }
  checkEngineSupports('cpu', withHeads(512));
});
