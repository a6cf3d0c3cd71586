import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import type { DecoderArchitecture } from './architecture.js';
import { digestArchitecture } from './architecture-digest.js';
import { readModelFolder } from './model-folder.js';

let architecture: DecoderArchitecture;
beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'architecture-digest-'));
  await writeTinyLlama(folder);
  architecture = (await readModelFolder(folder)).architecture as DecoderArchitecture;
  await rm(folder, { recursive: true });
});

test('changes with what the model computes, at any depth', () => {
  const { norm, rope, attention } = architecture;
  const changed: DecoderArchitecture[] = [
    architecture,
    { ...architecture, norm: { ...norm, epsilon: 0.1 } },
    { ...architecture, rope: { ...rope!, theta: 7 } },
    { ...architecture, attention: { ...attention, layers: attention.layers.map((one) => ({ ...one, window: 4 })) } },
  ];
  expect(new Set(changed.map(digestArchitecture)).size).toBe(changed.length);
});

test('does not change with the order of fields, a new field that is null, the ids of tokens, and what is only warned of', () => {
  const reversed = Object.fromEntries(Object.entries(architecture).reverse());
  const same = {
    ...reversed,
    ofALaterVersion: null,
    eosTokenIds: [1],
    maxPositions: 5,
    ignoredDropout: ['a'],
  } as unknown;
  expect(digestArchitecture(same as DecoderArchitecture)).toBe(digestArchitecture(architecture));
});

test('is the same in every release: checkpoints and manifests store it', () => {
  expect(digestArchitecture(architecture)).toBe('8b4b9a220df3a150f9ea12fc7e2568bb43b52f72a7e008c2b143e2573dd42d1b');
});
