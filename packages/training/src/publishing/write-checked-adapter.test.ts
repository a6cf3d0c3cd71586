import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AdapterChecks, AdapterProbe } from '@lorasmith/contracts';
import { loadTokenizer, type ModelFolder, ModelTexts, readModelFolder } from '@lorasmith/model-folder';
import {
  type ActingAdapter,
  type Classifier,
  type Decoder,
  LoraAdapter,
  loadClassifier,
  loadDecoder,
} from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, type FloatDType, liveTensorCount, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { type FloatDtype, fromFloat32, openSafetensors, toFloat32, writeSafetensors } from '@lorasmith/weight-files';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { writeTinyLlama } from '../../../../test/tiny-llama.js';
import { writeTinyClassifier } from '../../test/tiny-classifier.js';
import type { InTimeSlice } from '../shared-pass/engine-time.js';
import { PassScheduler } from '../shared-pass/pass-scheduler.js';
import { RecordedAdapter } from './merged-model.js';
import { logProbabilities, topColumns } from './probe-run.js';
import { type CheckedAdapterOptions, writeCheckedAdapter } from './write-checked-adapter.js';

const kernels = chooseKernels('fused');

let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'checked-adapter-'));
  await writeTinyLlama(join(root, 'llama'));
  await mkdir(join(root, 'classifier'));
  await writeTinyClassifier(join(root, 'classifier'));
});
afterAll(() => rm(root, { recursive: true }));

async function newFolder(): Promise<string> {
  const folder = join(root, `output-${++folders}`);
  await mkdir(folder);
  return folder;
}

/** A copy of a base with its weights in another dtype. */
async function baseIn(name: 'llama' | 'classifier', dtype: FloatDtype): Promise<string> {
  const folder = await newFolder();
  if (name === 'llama') await writeTinyLlama(folder);
  else await writeTinyClassifier(folder);
  const path = join(folder, 'model.safetensors');
  const file = await openSafetensors(path);
  const tensors = [];
  for (const { name: tensor, dtype: stored, shape } of file.tensors.values()) {
    const data = fromFloat32(toFloat32(await file.read(tensor), stored as FloatDtype), dtype);
    tensors.push({ name: tensor, dtype, shape, data });
  }
  await file.close();
  await writeSafetensors(path, tensors);
  return folder;
}

interface Made<Base> {
  base: Base;
  model: ModelFolder;
  adapter: LoraAdapter;
}

interface AdapterSettings {
  dtype?: FloatDType;
  /** The deviation of every matrix's numbers, which are normal. */
  size?: number;
  scaleOf?: (index: number) => number;
  rankOf?: (index: number) => number;
}

const adapterOn = (base: Decoder | Classifier, model: ModelFolder, settings: AdapterSettings): LoraAdapter => {
  const { size = 0.2, scaleOf = () => 2, rankOf = () => 4 } = settings;
  const targets = model.modules.map(({ name }, i) => ({ name, rank: rankOf(i), scale: scaleOf(i) }));
  const adapter = new LoraAdapter(base.groups, { targets, dropout: 0.1, seed: 0 });
  const numbers = normalNumbers(adapter.parameterCount, 5).map((value) => size * value);
  adapter.setParameters(tensorOf(numbers, [numbers.length]));
  return adapter;
};

async function llama(folder = join(root, 'llama'), settings: AdapterSettings = {}): Promise<Made<Decoder>> {
  const model = await readModelFolder(folder);
  const base = await loadDecoder(model, settings.dtype ?? 'float32', kernels);
  return { base, model, adapter: adapterOn(base, model, settings) };
}

async function classifier(
  folder = join(root, 'classifier'),
  settings: AdapterSettings = {},
): Promise<Made<Classifier>> {
  const model = await readModelFolder(folder);
  const base = await loadClassifier(model, settings.dtype ?? 'float32', kernels);
  return { base, model, adapter: adapterOn(base, model, settings) };
}

async function check(made: Made<Decoder | Classifier>, options: Partial<CheckedAdapterOptions> = {}) {
  const outputFolder = await newFolder();
  const { signal } = new AbortController();
  const alone = { texts: new ModelTexts(), inEngineCall: new PassScheduler().join().inEngineCall, signal };
  return { outputFolder, written: await writeCheckedAdapter({ ...made, outputFolder, ...alone, ...options }) };
}

function freed({ base, adapter }: Made<Decoder | Classifier>): void {
  adapter.dispose();
  base.dispose();
}

describe.each(['float32', 'bfloat16'] as const)('a llama in %s', (dtype) => {
  test('is written, checked and probed, and computes the same afterwards', async () => {
    const made = await llama(undefined, { dtype });
    const ids = Int32Array.of(5, 9, 14);
    const logits = () => scope(() => toFloat32Array(made.base.logits({ ids, rowLengths: [3] }, [made])));
    const before = logits();
    const { outputFolder, written } = await check(made);
    expect(logits()).toEqual(before);
    expect((await readPeftFolder(outputFolder)).modules).toEqual(made.adapter.toPeft(null).modules);
    expect(written.lora.modules).toHaveLength(made.model.modules.length);
    for (const { name, bytes, sha256 } of written.files) {
      const content = await readFile(join(outputFolder, name));
      expect({ bytes, sha256 }).toEqual({
        bytes: content.length,
        sha256: createHash('sha256').update(content).digest('hex'),
      });
    }

    const { checks, probe } = written;
    expect([...Value.Errors(AdapterChecks, checks), ...Value.Errors(AdapterProbe, probe)]).toEqual([]);
    expect(checks).toMatchObject({ read_back_difference: 0, read_back_bound: 0, merged_dtype: 'float32' });
    expect(checks.merged_difference).toBeLessThan(checks.merged_bound);
    expect(checks.merged_bound).toBeLessThan(checks.adapter_difference);
    freed(made);
  });

  test('has a probe that says what the model says', async () => {
    const made = await llama(undefined, { dtype });
    const { written } = await check(made);
    const { probe } = written;
    if (probe.kind !== 'next-token') throw new Error(probe.kind);
    expect(probe.precision).toBe(dtype);
    expect(probe.cases).toHaveLength(4);
    const tokenizer = await loadTokenizer(made.model.path);
    const logprobsOf = (ids: readonly number[], adapters: readonly ActingAdapter[]) => {
      const last = Int32Array.of(ids.length - 1);
      const stream = { ids: Int32Array.from(ids), rowLengths: [ids.length] };
      return scope(() => logProbabilities(made.base.logitsAt(last, stream, adapters))).logprobs;
    };
    const tolerance = dtype === 'float32' ? 1e-4 : 0.1;
    const withAdapter = probe.cases.map(({ token_ids }) => logprobsOf(token_ids, [made]));
    for (const [i, { prompt, token_ids, next_tokens }] of probe.cases.entries()) {
      expect([...tokenizer.encodeWithSpecialTokens(prompt)]).toEqual(token_ids);
      const alone = logprobsOf(token_ids, []);
      for (const { id, text, base_logprob, adapter_logprob } of next_tokens) {
        expect(Math.abs(alone.values[id]! - base_logprob)).toBeLessThan(tolerance);
        expect(Math.abs(withAdapter[i]!.values[id]! - adapter_logprob)).toBeLessThan(tolerance);
        expect(text).toBe(tokenizer.decode([id]));
      }
      if (dtype === 'bfloat16') continue;
      expect(next_tokens[0]!.id).toBe(topColumns(withAdapter[i]!, 0, 1)[0]);
      const listed = next_tokens.map(({ id }) => id);
      for (const id of [...topColumns(alone, 0, 5), ...topColumns(withAdapter[i]!, 0, 5)]) expect(listed).toContain(id);
    }
    freed(made);
  });

  test('may have a rank and a scale of its own in each layer', async () => {
    const made = await llama(undefined, {
      dtype,
      rankOf: (index) => 2 + (index % 3),
      scaleOf: (index) => 1 + (index % 4) / 3,
    });
    const { written } = await check(made);
    // Scales that are no powers of two apart round B, by a bit.
    expect(written.checks.read_back_bound).toBeGreaterThan(0);
    expect(written.checks.read_back_difference).toBeLessThan(written.checks.read_back_bound);
    freed(made);
  });
});

test('a base that is stored in bfloat16 rounds small updates away, and the bound says so', async () => {
  const folder = await baseIn('llama', 'BF16');
  for (const size of [0.2, 0.004]) {
    const made = await llama(folder, { size });
    const { checks } = (await check(made)).written;
    expect(checks.merged_dtype).toBe('bfloat16');
    expect(checks.merged_difference).toBeGreaterThan(0);
    expect(checks.merged_difference).toBeLessThan(checks.merged_bound);
    freed(made);
  }
});

test('an adapter larger than its base is allowed what its size enlarges', async () => {
  const made = await llama(await baseIn('llama', 'BF16'), { size: 1, dtype: 'bfloat16' });
  const { checks } = (await check(made)).written;
  expect(checks.merged_bound).toBeGreaterThan(checks.adapter_difference / 2);
  expect(checks.merged_bound).toBeLessThan(checks.adapter_difference);
  freed(made);
});

test('the probe of the base is kept until its tokenizer changes, and no tensor is left behind', async () => {
  const folder = await newFolder();
  await writeTinyLlama(folder);
  const made = await llama(folder);
  let passes = 0;
  const alone = new PassScheduler().join();
  const inEngineCall: InTimeSlice = async (tokens, work) => {
    if (tokens > 0) passes++;
    return await alone.inEngineCall(tokens, work);
  };
  const texts = new ModelTexts();
  // Both ask for the results of the base before either has them.
  const [first, beside] = await Promise.all([
    check(made, { texts, inEngineCall }),
    check(made, { texts, inEngineCall }),
  ]);
  const before = liveTensorCount();
  passes = 0;
  const second = await check(made, { texts, inEngineCall });
  expect(liveTensorCount()).toBe(before);
  expect(passes).toBe(2);
  expect(second.written).toEqual(first.written);
  expect(beside.written).toEqual(first.written);
  await writeFile(join(folder, 'chat_template.jinja'), '{{ messages[0].content }}!');
  const { probe } = (await check(made, { texts, inEngineCall })).written;
  expect(passes).toBe(5);
  expect(JSON.stringify(probe)).toContain('!');
  freed(made);
});

test('the probe has no position at which base or adapter ends the text, where there are others', async () => {
  const folder = await newFolder();
  await writeTinyLlama(folder);
  const firstTokens = async () => {
    const made = await llama(folder);
    const { probe } = (await check(made)).written;
    freed(made);
    if (probe.kind !== 'next-token') throw new Error(probe.kind);
    return probe.cases.map(({ next_tokens: tokens }) => {
      const first = (of: (token: (typeof tokens)[number]) => number) =>
        tokens.reduce((best, token) => (of(token) > of(best) ? token : best)).id;
      return [first((token) => token.adapter_logprob), first((token) => token.base_logprob)];
    });
  };
  const [[ofAdapter], [, ofBase]] = (await firstTokens()) as [number[], number[]];
  const path = join(folder, 'config.json');
  const ends = [ofAdapter!, ofBase!];
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), eos_token_id: ends }));
  const others = await firstTokens();
  expect(others).toHaveLength(4);
  for (const id of others.flat()) expect(ends).not.toContain(id);
});

test('a classifier has its scores as the probe', async () => {
  const made = await classifier();
  const { probe, checks } = (await check(made)).written;
  if (probe.kind !== 'class-scores') throw new Error(probe.kind);
  expect(Value.Check(AdapterProbe, probe)).toBe(true);
  expect(probe.cases).toHaveLength(8);
  expect(checks.read_back_difference).toBe(0);
  expect(checks.adapter_difference).toBeGreaterThan(checks.merged_bound);
  const rows = probe.cases.flatMap((one) => one.features);
  const features = Float32Array.from(rows);
  const scoresOf = (adapters: ActingAdapter[]) =>
    scope(() => [...toFloat32Array(made.base.logits({ features, width: 6 }, adapters))]);
  expect(probe.cases.flatMap((one) => one.base_scores)).toEqual(scoresOf([]));
  // The check records what it computes, so it computes adapters apart from the frozen layers. Elsewhere the CUDA engine does not.
  const recorded = { ...made, adapter: new RecordedAdapter(made.adapter) };
  expect(probe.cases.flatMap((one) => one.adapter_scores)).toEqual(scoresOf([recorded]));
  freed(made);
});

describe('fails', () => {
  test('with the layer, for a number that is not finite', async () => {
    const made = await llama();
    const numbers = toFloat32Array(made.adapter.parameters).slice();
    numbers[3] = Number.NaN;
    made.adapter.setParameters(tensorOf(numbers, [numbers.length]));
    await expect(check(made)).rejects.toMatchObject({
      code: 'non_finite_loss',
      message: expect.stringContaining('model.layers.0.self_attn.q_proj'),
    });
    freed(made);
  });

  test('with the layer, where the files hold other numbers than the engine computes with, by one bit', async () => {
    class WrongAdapter extends LoraAdapter {
      override toPeft(name: string | null) {
        const peft = super.toPeft(name);
        new Uint32Array(peft.modules.get('model.layers.1.mlp.down_proj')!.b.buffer)[7]! ^= 1;
        return peft;
      }
    }
    const made = await llama();
    const targets = made.model.modules.map(({ name }) => ({ name, rank: 4, scale: 2 }));
    const adapter = new WrongAdapter(made.base.groups, { targets, dropout: 0, seed: 0 });
    const numbers = normalNumbers(adapter.parameterCount, 5);
    adapter.setParameters(tensorOf(numbers, [numbers.length]));
    await expect(check({ ...made, adapter })).rejects.toMatchObject({
      code: 'adapter_check_failed',
      message: expect.stringContaining('other matrices at model.layers.1.mlp.down_proj'),
    });
    adapter.dispose();
    freed(made);
  });

  test('with the layer, where the dtype of the base cannot hold the merged weight', async () => {
    const made = await classifier(await baseIn('classifier', 'F16'), { size: 300 });
    await expect(check(made)).rejects.toMatchObject({
      code: 'merge_not_finite',
      message: expect.stringMatching(/^Merging [02] gives numbers that are not finite in float16/),
    });
    freed(made);
  });

  test('as cancelled when it is stopped, and the model computes the same afterwards', async () => {
    const made = await llama();
    const stream = { ids: Int32Array.of(5, 9, 14), rowLengths: [3] };
    const logits = () => scope(() => toFloat32Array(made.base.logits(stream, [made])));
    const before = logits();
    await expect(check(made, { signal: AbortSignal.abort('cancel') })).rejects.toMatchObject({ code: 'cancelled' });
    expect(logits()).toEqual(before);
    freed(made);
  });
});
