import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import { LoraAdapter, loadDecoder } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, liveTensorCount } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { oneOfEachStructure, TESTED_KERNELS } from '../../../test/usual-cases.js';
import { expectGenerations, readExpected } from '../test/expected-generation.js';

const FIXTURES = new URL('../../../test/fixtures/', import.meta.url).pathname;
const foldersOf = (kind: string) => readdirSync(join(FIXTURES, kind));
const CASES = [
  ...oneOfEachStructure(foldersOf('families')).map((name) => join('families', name)),
  ...foldersOf('reference').map((name) => join('reference', name)),
].filter((name) => existsSync(join(FIXTURES, name, 'base')));

/**
 * Tokens of transformers' `generate`, and log-probabilities within 1e-4: texts with the adapter and without it in the same
 * passes, longer than windows, pages, pieces and the original context.
 */
describe.each(TESTED_KERNELS)('with %s kernels', (source) => {
  const kernels = chooseKernels(source);
  // What differs in the cache's ops: windows, capped scores, heads that turn in part, positions, ropes by length, shared keys.
  const some = /gemma2$|phi3-longrope-partial|gpt2$|rope-dynamic|gemma4-text$/;

  test.each(CASES.filter((name) => source === 'fused' || some.test(name)))('%s', async (name) => {
    const before = liveTensorCount();
    const folder = join(FIXTURES, name);
    const decoder = await loadDecoder(await readModelFolder(join(folder, 'base')), 'float32', kernels);
    const trained = await readPeftFolder(join(folder, 'adapter_trained'));
    const targets = [...trained.modules].map(([module, { rank, scale }]) => ({ name: module, rank, scale }));
    const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial: trained });
    // Of the five texts, not all run at once.
    expectGenerations(decoder, await readExpected(folder), adapter, { cacheTokens: 192, maxTexts: 4 });
    adapter.dispose();
    decoder.dispose();
    expect(liveTensorCount()).toBe(before);
  });
});
