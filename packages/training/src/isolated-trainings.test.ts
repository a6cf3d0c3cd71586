import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type JobSpec, ProductError, type UploadedDataset } from '@lorasmith/contracts';
import { type ExampleStore, openExampleStore } from '@lorasmith/planning';
import { chooseKernels } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { QUANTIZED_DIR, writeFamilyModel } from '../../../test/family-models.mjs';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { usualCases } from '../../../test/usual-cases.js';
import { aJob, writeRows } from '../test/a-job.js';
import { BaseModelCache } from './base-model-cache.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { type JoinOptions, type Participant, PassScheduler } from './shared-pass/pass-scheduler.js';
import { train } from './train.js';

const kernels = chooseKernels('fused');

// An adapter's file does not depend on the jobs it was trained beside, nor on how often it was stopped.

/** Each differs from the others in what it trains, and in how. */
const JOBS: Parameters<typeof aJob>[0][] = [
  { lora: { r: 4 } },
  { lora: { r: 8, dropout: 0.2, target_modules: ['q_proj', 'v_proj'] }, training: { seed: 5 } },
  { lora: { r: 16, target_modules: ['down_proj'] }, training: { gradient_accumulation_steps: 1 } },
  { lora: { r: 1, lora_plus_ratio: 4 }, training: { batch_size: 5, gradient_accumulation_steps: 1 } },
  { validation: { split: 0.3 }, training: { eval_every_steps: 2, seed: 7 } },
  { lora: { r: 3, dropout: 0.5 }, training: { gradient_accumulation_steps: 3, max_grad_norm: 0.1 } },
  { lora: { r: 2, target_modules: ['o_proj', 'gate_proj'] }, training: { batch_size: 1, lr_scheduler: 'linear' } },
  { lora: { r: 5 }, training: { batch_size: 3, checkpoint_every_steps: 2, seed: 11 } },
];

let root: string;
let dataset: UploadedDataset;
let examples: ExampleStore;
let folders = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'isolated-'));
  examples = await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 });
  await writeTinyLlama(join(root, 'none'));
  await writeFamilyModel('nf4-original', join(root, 'nf4'), QUANTIZED_DIR, 'original');
  // In characters that both tokenizers have.
  const rows = Array.from({ length: 10 }, (_, i) => ({
    prompt: `countTo${i % 5}`,
    completion: Array.from({ length: 2 * (i % 5) + 1 }, (_, number) => number).join('x'),
  }));
  dataset = await writeRows(join(root, 'rows.jsonl'), 'prompt_completion', rows);
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

/** A scheduler whose first pass begins once a number of trainings waits for it. */
class GatheringScheduler extends PassScheduler {
  #missing: number;
  #open = () => {};
  readonly #gathered = new Promise<void>((open) => {
    this.#open = open;
  });

  constructor(trainings: number) {
    super({ passTokens: 4096 });
    this.#missing = trainings;
  }

  override join(options: JoinOptions): Participant {
    const participant = super.join(options);
    let arrives = () => {
      if (--this.#missing === 0) this.#open();
      arrives = () => {};
    };
    return {
      ...participant,
      lossAndGradients: async (microBatch) => {
        arrives();
        await this.#gathered;
        return participant.lossAndGradients(microBatch);
      },
    };
  }
}

/** Trainings of one process, which begin together. */
class Trainer {
  readonly #cache = new BaseModelCache(kernels);
  readonly #scheduler: PassScheduler;

  constructor(trainings: number) {
    this.#scheduler = new GatheringScheduler(trainings);
  }

  /**
   * @param stops how often it is stopped after a step, as by a shutdown or by a kill, and then resumed
   * @returns the digest of the adapter's numbers
   */
  async train(spec: JobSpec, stops: readonly ('shutdown' | 'killed')[] = []): Promise<string> {
    const checkpointFolder = join(root, `checkpoints-${++folders}`);
    for (const stop of [...stops, null]) {
      const outputFolder = join(root, `output-${++folders}`);
      await mkdir(outputFolder);
      const controller = new AbortController();
      const modelFolder = join(root, spec.training.base_quantization);
      const options = { spec, modelFolder, dataset, examples, checkpointFolder, outputFolder };
      try {
        await train({
          ...options,
          rowsFile: join(root, 'rows.jsonl'),
          initialAdapterFolder: null,
          cache: this.#cache,
          scheduler: this.#scheduler,
          signal: controller.signal,
          onEvent: ({ type }) => {
            if (type === 'step-finished' && stop !== null) controller.abort(stop);
          },
        });
        const file = await readFile(join(outputFolder, 'adapter_model.safetensors'));
        return createHash('sha256').update(file).digest('hex');
      } catch (error) {
        if (!(error instanceof ProductError && error.code === 'cancelled')) throw error;
      }
    }
    throw new Error('it was stopped once more than was asked for');
  }

  close(): void {
    this.#cache.dispose();
  }
}

const FORMS = [
  { precision: 'float32', quantization: 'none' },
  { precision: 'bfloat16', quantization: 'nf4' },
  { precision: 'bfloat16', quantization: 'none' },
] as const;
describe.each(usualCases(FORMS, 2))('in $precision, base quantization $quantization', ({ precision, quantization }) => {
  const form = { precision, base_quantization: quantization };
  const specs = JOBS.map(({ lora, validation, training } = {}) => {
    return aJob({ ...(lora && { lora }), ...(validation && { validation }), training: { ...training, ...form } });
  });
  const alone: string[] = [];
  const reason = `The products of this processor in ${precision} depend on the number of rows.`;
  beforeAll(async () => {
    if (!kernels.rowsAreIndependent(precision)) return;
    const trainer = new Trainer(1);
    for (const spec of specs) alone.push(await trainer.train(spec));
    trainer.close();
    expect(new Set(alone).size).toBe(JOBS.length);
  });

  test('a training has the same bytes in a pair', async ({ skip }) => {
    if (!kernels.rowsAreIndependent(precision)) skip(reason);
    const pair = [1, 4];
    const trainer = new Trainer(pair.length);
    const digests = await Promise.all(pair.map((job) => trainer.train(specs[job]!)));
    expect(digests).toEqual(pair.map((job) => alone[job]));
    trainer.close();
  });

  test('trainings have the same bytes in eights, of which some are stopped and resumed, beside one that is not finite', async ({
    skip,
  }) => {
    if (!kernels.rowsAreIndependent(precision)) skip(reason);
    const joins = vi.spyOn(NextToken.prototype, 'join');
    const trainer = new Trainer(9);
    // Its decay turns each number into -99 times itself in a step, until one overflows.
    const overflowing = { learning_rate: 10, weight_decay: 10, max_grad_norm: null, epochs: 60, ...form } as const;
    const broken = trainer.train(aJob({ training: overflowing }));
    const failed = expect(broken).rejects.toMatchObject({ code: 'non_finite_loss' });
    const stops = new Map([
      [3, ['shutdown', 'killed'] as const],
      [5, ['killed', 'shutdown'] as const],
    ]);
    const digests = await Promise.all(specs.map((spec, job) => trainer.train(spec, stops.get(job))));
    await failed;
    expect(digests).toEqual(alone);
    expect(Math.max(...joins.mock.calls.map(([batches]) => batches.length))).toBe(9);
    joins.mockRestore();
    trainer.close();
  });
});
