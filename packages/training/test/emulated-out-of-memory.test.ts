import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineProfile } from '@lorasmith/contracts';
import { expect, test } from 'vitest';

// The emulated GPU, with so little memory that a job runs out of it. Set before anything of the engine is imported.
await import('../../tensor/test/emulated-gpu.js');
process.env.EMULATED_GPU_MEMORY = String(1024 ** 2);

const { openExampleStore } = await import('@lorasmith/planning');
const { chooseKernels } = await import('@lorasmith/tensor');
const { trainAlone } = await import('./train-alone.js');
const { aJob, writeRows } = await import('./a-job.js');
const { aMachine } = await import('../../../test/a-machine.js');
const { writeTinyLlama } = await import('../../../test/tiny-llama.js');

test('a job that does not fit the card although it was expected to fails by name, with settings that need less', async () => {
  const card = { name: 'a card', uuid: 'GPU-1', compute_capability: '9.0', driver: null, memory_bytes: 80e9 };
  const engine: MachineProfile['engine'] = { kind: 'cuda', card, self_test: null };
  const machine = aMachine({ memory_bytes: 80e9, base_memory_bytes: 0, engine });
  const folder = await mkdtemp(join(tmpdir(), 'lorasmith-out-of-memory-'));
  try {
    const modelFolder = join(folder, 'llama');
    const outputFolder = join(folder, 'output');
    for (const each of [modelFolder, outputFolder]) await mkdir(each);
    await writeTinyLlama(modelFolder);
    const rowsFile = join(folder, 'rows.jsonl');
    const rows = Array.from({ length: 64 }, (_, i) => ({ text: `count to ${i} and back, and then to ${i + 1}` }));
    const dataset = await writeRows(rowsFile, 'text', rows);
    const spec = aJob({ training: { batch_size: 64, recompute: 'never', max_steps: 1, precision: 'float32' } });
    const training = trainAlone(chooseKernels('fused'), {
      ...{ spec, modelFolder, rowsFile, dataset, machine, outputFolder },
      examples: await openExampleStore({ dataDir: join(folder, 'data'), maxBytes: 2 ** 30 }),
      checkpointFolder: join(folder, 'checkpoints'),
      initialAdapterFolder: null,
      signal: new AbortController().signal,
      onEvent: () => {},
    });
    await expect(training).rejects.toMatchObject({
      code: 'out_of_memory',
      message: expect.stringMatching(/^The memory of the GPU ran out\. Use .*(recompute|batch_size)/),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
