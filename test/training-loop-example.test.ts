import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { createClient } from '../packages/client/src/index.js';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { greatestDifference } from './numeric/greatest-difference.js';
import { writeTinyLlama } from './tiny-llama.js';

// examples/training-loop, with a tiny model, beside the job that trains the same.

const EXAMPLE = new URL('../examples/training-loop/preference-loop.mjs', import.meta.url);
const WRITE_PROFILE = fileURLToPath(new URL('write-machine-profile.mjs', import.meta.url));
const PAIRS = new URL('../examples/preferences/pairs.jsonl', import.meta.url);
const [STEPS, COUNT] = [4, 8];

test('a loop with a loss of its own trains what the job trains', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-loop-'));
  // On a made-up machine, both train in float32. In bfloat16, whose rounding is 0.4 %, a loss would differ by about 1 %.
  await promisify(execFile)(process.execPath, [WRITE_PROFILE, path.join(folder, 'data')]);
  await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
  const stack = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir: path.join(folder, 'models'),
    env: { ...process.env, REDIS_URL: undefined },
  });
  try {
    const { trainOnPairs } = await import(EXAMPLE.href);
    const client = createClient({ baseUrl: stack.apiUrl });
    const lines = (await readFile(PAIRS, 'utf8')).split('\n').slice(0, COUNT);
    const { id: dataset } = await client.uploadDataset({ text: lines.join('\n') });
    const steps = { learning_rate: 1e-2, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, grad_clip_norm: 1 };
    const said: string[] = [];
    const { losses, saved } = await trainOnPairs(
      client,
      {
        ...{ dataset, baseModel: 'tiny-llama', steps: STEPS, batchSize: COUNT, rank: 4, beta: 0.1, seed: 7 },
        ...{ step: steps, name: 'loop' },
      },
      (text: string) => said.push(text),
    );
    expect(said).toHaveLength(STEPS);
    expect(losses[0]).toBeCloseTo(Math.LN2, 6);
    expect(losses.at(-1)).toBeLessThan(losses[0] - 0.01);

    const attention = ['q_proj', 'k_proj', 'v_proj', 'o_proj'];
    const queued = await client.createJob({
      ...{ base_model: 'tiny-llama', dataset, objective: { kind: 'preference', beta: 0.1 } },
      lora: { r: 4, alpha: 32, target_modules: [...attention, 'gate_proj', 'up_proj', 'down_proj', 'lm_head'] },
      training: {
        ...{ max_steps: STEPS, batch_size: COUNT, learning_rate: 1e-2, seed: 7, max_grad_norm: 1 },
        ...{ lr_scheduler: 'constant', warmup_ratio: 0 },
      },
    });
    const ofJob = new Map<number, { loss: number; grad_norm: number }>();
    const job = await client.waitForJob(queued.id, {
      onEvent: (event) => {
        if (event.type === 'step-finished') ofJob.set(event.data.step, event.data);
      },
    });
    expect(job.status).toBe('succeeded');
    expect(ofJob.has(STEPS)).toBe(true);
    for (const [step, { loss }] of ofJob) {
      const difference = Math.abs((losses[step - 1] ?? NaN) - loss);
      // Where a gradient is nearly zero, AdamW makes its rounding larger.
      expect(difference, `step ${step}`).toBeLessThan(step === 1 ? 1e-6 : 2e-3 * loss);
    }
    const parameters = async (adapter: string) => {
      const downloaded = path.join(folder, adapter);
      await client.downloadAdapter(adapter, { folder: downloaded });
      const bytes = await readFile(path.join(downloaded, 'adapter_model.safetensors'));
      const start = 8 + Number(bytes.readBigUInt64LE());
      return {
        names: bytes.toString('utf8', 8, start),
        values: new Float32Array(bytes.buffer.slice(bytes.byteOffset + start)),
      };
    };
    const [ofLoop, trained] = [await parameters(saved.adapter), await parameters(job.adapter!)];
    expect(ofLoop.names).toBe(trained.names);
    // A twentieth of one step.
    expect(greatestDifference(ofLoop.values, trained.values)).toBeLessThan(5e-4);

    const continued = await client.createTrainingSession({ from: saved.path, with_optimizer: false });
    const sampler = await continued.sampler();
    const settings = { max_tokens: 4, temperature: 0, prompt_logprobs: true, top_logprobs: 2 };
    const sampled = await sampler.sample([5, 9, 14], settings);
    expect(sampled.samples.map(({ tokens, logprobs, top }) => [tokens.length, logprobs.length, top?.length])).toEqual([
      [4, 4, 4],
    ]);
    expect(sampled.prompt_logprobs?.map((value) => value === null)).toEqual([true, false, false]);
    const ofSaved = await continued.samplerOf({ adapter: saved.adapter });
    expect((await ofSaved.sample([5, 9, 14], settings)).samples).toEqual(sampled.samples);
    const rows = [{ tokens: [1, 2], targets: [2, 999_999] }];
    await expect(continued.forwardBackward(rows)).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('999999'),
    });
    expect(await continued.optimStep()).toEqual({ gradient_norm: null });
    await continued.close();
    await expect(continued.optimStep()).rejects.toMatchObject({ code: 'cancelled' });
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
