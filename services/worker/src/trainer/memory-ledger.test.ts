import { fileURLToPath } from 'node:url';
import { JobDeferred } from '@lorasmith/contracts';
import { readModelFolder } from '@lorasmith/model-folder';
import { availableMemory, decoderMemory, engineMemory, type MemoryNeeds } from '@lorasmith/planning';
import { expect, test } from 'vitest';
import { aMachine } from '../../../../test/a-machine.js';
import { MemoryLedger } from './memory-ledger.js';

const MACHINE = aMachine();

test('what is reserved beside runs counts for whatever is reserved after it', async () => {
  const model = await readModelFolder(
    fileURLToPath(new URL('../../../../test/fixtures/reference/llama-tied/base', import.meta.url)),
  );
  if (model.architecture.kind !== 'decoder') expect.fail('The model is no decoder.');
  const needs: MemoryNeeds = {
    settings: {
      ...{ architecture: model.architecture, weightBytes: 5e9, decodedBytes: 0, targets: [], trainedParameters: 0 },
      ...{ optimizer: 'adamw', precision: 'float32', recomputedLayers: 0, dropout: 0, logitsInChunk: 0 },
      ...{ engine: engineMemory(MACHINE.engine), sampleCacheBytes: 0 },
    },
    load: { mostTokens: 64, mostLabels: 64, longestRow: 64 },
    evaluation: null,
  };
  const left = availableMemory(MACHINE) - MACHINE.base_memory_bytes - decoderMemory(needs);
  const ledger = new MemoryLedger(MACHINE.pass_tokens);
  const end = ledger.admit(needs, MACHINE);
  const release = ledger.reserve(0.6 * left, MACHINE);
  expect(() => ledger.reserve(0.6 * left, MACHINE)).toThrow(JobDeferred);
  release();
  ledger.reserve(0.6 * left, MACHINE)();
  end();
});
