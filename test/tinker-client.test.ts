import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { pythonEnvironment } from '../scripts/setup/python-environment.mjs';
import { startStack } from '../scripts/stack/start-stack.mjs';
import { makeDataFolder } from './data-folder.js';
import { writeTinyLlama } from './tiny-llama.js';

// The package tinker, unchanged, against the complete service.

const FLOWS = path.join(import.meta.dirname, 'tinker-client');
const FLOW_MS = 240_000;
const run = promisify(execFile);

test(
  "tinker's package trains, samples, saves and is refused",
  async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-tinker-'));
    await makeDataFolder(path.join(folder, 'data'));
    await writeTinyLlama(path.join(folder, 'models/tiny-llama'));
    const stack = await startStack({
      dataDir: path.join(folder, 'data'),
      modelsDir: path.join(folder, 'models'),
      env: { ...process.env, REDIS_URL: undefined },
    });
    try {
      const requirements = path.join(FLOWS, 'requirements.txt');
      const programs = await pythonEnvironment({ cache: cacheDir(process.env), name: 'tinker-client', requirements });
      const flow = [path.join(FLOWS, 'flow.py'), stack.apiUrl, 'tiny-llama'];
      const { stdout } = await run(path.join(programs, 'python'), flow, { timeout: FLOW_MS });
      const seen = JSON.parse(stdout);
      const [first, second, third] = seen.losses;
      expect(second).toBeLessThan(first);
      expect(third).toBeLessThan(second);
      expect(seen.norms.every((norm: number) => norm > 0)).toBe(true);
      expect(seen).toMatchObject({
        models: ['tiny-llama'],
        info: { model_name: 'tiny-llama', is_lora: true, lora_rank: 4, model_data: { tokenizer_id: 'tiny-llama' } },
        chunks: { outputs: 1_100, last: true },
        saved: expect.stringMatching(/^tinker:\/\/[0-9a-f]{32}:train:0\/weights\/three$/),
        sampled_logprobs: 4,
        seeded: { count: 20, again: true, distinct: true },
        at_once: true,
        spellings: true,
        weights: { base_model: 'tiny-llama', is_lora: true, lora_rank: 4, train_unembed: true },
      });
      for (const loss of Object.values(seen.rewards)) expect(loss).toBeCloseTo(-3, 4);
      expect(seen.continued[1]).toBe(seen.continued[0]);
      expect(seen.copied).toEqual([
        expect.stringMatching(/^tinker:\/\/[0-9a-f]{32}:train:0\/weights\/three$/),
        seen.continued[0],
      ]);
      expect(seen.copied[0]).not.toBe(seen.saved);
      const [ofSnapshot, ofCheckpoint, ofBase] = seen.samples;
      expect(ofCheckpoint).toEqual(ofSnapshot);
      expect(ofBase).not.toEqual(ofSnapshot);
      expect(seen.prompt_logprobs).toHaveLength(3);
      expect(seen.prompt_logprobs[0]).toBeNull();
      expect(seen.scored).toEqual(seen.prompt_logprobs);
      expect(seen.top.slice(1).map((tokens: unknown[]) => tokens.length)).toEqual([2, 2]);
      const [reason, tokens, stop] = seen.stopped;
      expect(reason).toBe('stop');
      expect(tokens.at(-1)).toBe(stop);
      expect(seen.runs).toHaveLength(4);
      expect(seen.checkpoints).toHaveLength(2);
      expect(seen.left).toEqual([[seen.saved, true, true]]);
      expect(seen.after).toBeGreaterThan(0);
      expect(seen.refused).toEqual({
        token: ['RequestFailedError', null, expect.stringContaining('999999')],
        nan: ['RequestFailedError', null, expect.stringContaining('advantages')],
        long: ['RequestFailedError', null, expect.stringContaining('tokens')],
        model: ['NotFoundError', 404, expect.stringContaining('tiny-llama')],
        path: ['NotFoundError', 404, expect.stringContaining('tinker://a/weights/b')],
        again: ['RequestFailedError', null, expect.stringContaining('overwrite')],
        stability: ['BadRequestError', 400, expect.stringContaining('loss_fn=ppo or importance_sampling')],
      });
    } finally {
      await stack.stop();
      await rm(folder, { recursive: true, force: true });
    }
  },
  FLOW_MS,
);
