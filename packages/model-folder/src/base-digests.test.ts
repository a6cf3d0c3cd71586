import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import type { DecoderArchitecture } from './architecture.js';
import { type BaseIdentity, baseMismatch, digestArchitecture } from './base-digests.js';
import { withWindows } from './config/layer-windows.js';
import { readModelFolder } from './model-folder.js';

const [A, B] = ['a'.repeat(64), 'b'.repeat(64)];
const made = { name: 'tiny', weights_sha256: A, architecture_sha256: A, quantization: null };
const quantization = { type: 'nf4', double_quantization: true, on_load: true } as const;

test.each<[Partial<BaseIdentity>, string | null]>([
  [made, null],
  [{}, null],
  [{ name: 'tiny' }, null],
  [{ name: 'small' }, 'It was made for the base model tiny, not for small.'],
  [{ ...made, weights_sha256: B }, 'It was made for other weights of tiny'],
  [{ ...made, architecture_sha256: B }, 'It was made for another config.json of tiny'],
  [{ ...made, weights_sha256: B, architecture_sha256: B }, 'It was made for other weights of tiny'],
  [{ quantization: { ...quantization, on_load: false } }, null],
  [{ quantization }, 'It was made for tiny with base_quantization "none", not "nf4"'],
  [{ architecture_sha256: B }, 'It was made for another config.json of tiny'],
])('compared with the base model %o: %o', (now, sentence) => {
  expect(baseMismatch('It', made, now)).toEqual(sentence === null ? null : expect.stringContaining(sentence));
});

describe('digestArchitecture', () => {
  let architecture: DecoderArchitecture;
  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'architecture-digest-'));
    await writeTinyLlama(folder);
    architecture = (await readModelFolder(folder)).architecture as DecoderArchitecture;
    await rm(folder, { recursive: true });
  });

  test('changes with any setting that affects outputs, at any depth', () => {
    const { norm, ropes, layers } = architecture;
    const changed: DecoderArchitecture[] = [
      architecture,
      { ...architecture, norm: { ...norm, epsilon: 0.1 } },
      { ...architecture, ropes: [{ ...ropes[0]!, theta: 7 }] },
      {
        ...architecture,
        layers: withWindows(
          layers,
          layers.map(() => 4),
        ),
      },
    ];
    expect(new Set(changed.map(digestArchitecture)).size).toBe(changed.length);
  });

  test('ignores the order of fields, null fields, token ids, the maximum length and ignored dropout', () => {
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

  test('is the same in every release, since checkpoints and manifests store it', () => {
    expect(digestArchitecture(architecture)).toBe('7f74c27761b8df10b5f15d726281381af6702b2210bae58566c1e28ff2bebad6');
  });

  test.each([
    ['deepseek_v3', '48e2bb29076820c1796f89bbddf662c6ed24e5ae33cb80996ce11fd1fe439d8b'],
    ['gemma4-text', 'da4ff67e6535345f224f6ec2aabc688473233fb583a3661822eac86fdfbd4f8f'],
    ['gemma4_moe-text', 'f5b24afbf0b9ade0e8b9c37f41e99872261b4adf31fc1c495ca3b459f8abb3dc'],
    ['glm4_moe', '0afa39dfad01bd398e6b013eed2cdae825965a34dc398efceb8c783a0ce1c31d'],
    ['gpt_oss-mxfp4', 'fe9c110bdd1460c3afa2dc38aefa6b83d2a55b67c6cca2ddac34f702d090c702'],
    ['qwen3_moe', '942dad61e24defdaf8a4505b4583ac165a0435669b90d2df7de031d5b5263625'],
    ['qwen3_5-text', '764f756ad05ed86eb9b22dcc9ce4dfec2b7bb6b6c36c86092f012a9c012e3e5b'],
  ])('is so for each kind of layer: %s', async (name, digest) => {
    const folder = new URL(`../../../test/fixtures/families/${name}/base`, import.meta.url).pathname;
    expect(digestArchitecture((await readModelFolder(folder)).architecture)).toBe(digest);
  });
});
