import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type EngineKind,
  type JobRequest,
  JobSpec,
  type MachineProfile,
  ProductError,
  Report,
  type UploadedDataset,
} from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  type LinearAttention,
  loadTokenizer,
  type ModelFolder,
} from '@lorasmith/model-folder';
import { Value } from 'typebox/value';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { aMachine, RATES } from '../../../test/a-machine.js';
import { CHATML, TINY_LAYER, tinyClassifier, tinyDecoder } from '../test/tiny-model.js';
import { openExampleStore } from './example-file/example-store.js';
import type { Examples } from './example-file/examples.js';
import type { FeatureExamples } from './objectives/classification/classification.js';
import type { TokenExamples } from './objectives/next-token/token-examples.js';
import type { ScoredRow } from './objectives/objective.js';
import { type Plan, type PlanJobOptions, planJob } from './plan-job.js';
import { planWithoutRows } from './plan-without-rows.js';

let folder: string;
const open: Plan[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'plan-job-'));
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((planned) => planned.close()));
  await rm(folder, { recursive: true });
});

interface Settings {
  lora?: object;
  training?: object;
  validation?: object;
  samples?: object;
}

async function plan(...job: Parameters<typeof jobOf>) {
  const planned = await planJob(await jobOf(...job));
  open.push(planned);
  return planned;
}

async function jobOf(
  model: ModelFolder,
  format: UploadedDataset['format'],
  rows: (object | string)[],
  settings: Settings = {},
  options: Pick<PlanJobOptions, 'signal' | 'initial' | 'machine' | 'validation' | 'onProgress'> = {},
): Promise<PlanJobOptions> {
  const { dataset, rowsFile } = await datasetOf(TRAINED, format, rows);
  const validation = { ...(options.validation && { dataset: options.validation.dataset.id }), ...settings.validation };
  const request: JobRequest = { base_model: 'tiny', dataset: dataset.id };
  // Few steps with the usual rate would change next to nothing, which is warned of.
  const training = { learning_rate: 1e-2, ...settings.training };
  const given = { ...request, lora: {}, ...settings, training, validation };
  const spec = Value.Default(JobSpec, given) as JobSpec;
  expect(Value.Errors(JobSpec, spec)).toEqual([]);
  const examples = await openExampleStore({ dataDir: join(folder, 'data'), maxBytes: 2 ** 30 });
  return { spec, model, dataset, rowsFile, examples, ...options };
}

const TRAINED = `ds_${'0'.repeat(24)}`;
const HELD_OUT = `ds_${'1'.repeat(24)}`;

async function datasetOf(id: string, format: UploadedDataset['format'], rows: readonly (object | string)[]) {
  const rowsFile = join(folder, `${id}.jsonl`);
  const content = rows.map((row) => (typeof row === 'string' ? row : JSON.stringify(row))).join('\n');
  await writeFile(rowsFile, content);
  const dataset: UploadedDataset = {
    id,
    object: 'dataset',
    owner: null,
    sha256: createHash('sha256').update(content).digest('hex'),
    name: null,
    format,
    rows: rows.length,
    bytes: 1,
    features: null,
    warnings: [],
    created_at: '2026-01-01T00:00:00Z',
  };
  return { dataset, rowsFile };
}

const numbersOf = (examples: Examples) => Array.from({ length: examples.count }, (_, number) => number);
const linesOf = (examples: Examples) => numbersOf(examples).map((number) => examples.lineOf(number));
const sequencesOf = (examples: Examples) =>
  numbersOf(examples).map((number) => (examples as TokenExamples).sequence(number));

async function refusal(planning: Promise<unknown>): Promise<ProductError> {
  const error = await planning.then(
    () => new Error('was not refused'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ProductError);
  return error as ProductError;
}

const texts = (...all: string[]) => all.map((text) => ({ text }));
const textOf = (length: number) => ({ text: 'x'.repeat(length) });

describe('planJob for a decoder', () => {
  it('plans, and reports what it planned', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const rows = ['One', 'Two', 'Three', 'Four', 'Five'].map((completion) => ({ prompt: 'Count!', completion }));
    const settings = {
      training: { batch_size: 2, warmup_ratio: 0.1 },
      lora: { r: 4, target_modules: ['q_proj', 'v_proj'] },
    };
    const { report, targets, training, validation, steps } = await plan(model, 'prompt_completion', rows, settings);

    expect(Value.Errors(Report, report)).toEqual([]);
    expect(targets.map(({ name }) => name)).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.v_proj',
    ]);
    const trained = 2 * 4 * (32 + 32) + 2 * 4 * (32 + 16);
    expect(report.parameters).toEqual({
      trained,
      total: 100_000 + trained,
      trained_percent: (100 * trained) / (100_000 + trained),
      adapted_percent: (100 * 2 * (32 * 32 + 32 * 16)) / 100_000,
      modules: targets.map(({ name }) => name),
    });
    expect(report.adapter_bytes).toBeGreaterThan(4 * trained);
    expect(steps).toEqual({ perEpoch: 3, total: 9, warmup: 1 });
    expect(report.steps).toEqual({ per_epoch: 3, total: 9, warmup: 1 });
    expect(report.rows).toMatchObject({ total: 5, training: 5, validation: 0, overflowed: 0, dropped: 0 });
    expect(report.precision.chosen).toBeNull();
    expect(validation).toBeNull();

    const tokenizer = await loadTokenizer(model.path);
    expect(linesOf(training)).toEqual([1, 2, 3, 4, 5]);
    const sequences = sequencesOf(training);
    const ids = sequences.flatMap((sequence) => [...sequence.ids]);
    const mask = sequences.flatMap(({ trained: flags }) => [...flags]);
    expect(numbersOf(training).map((number) => training.lengthOf(number))).toEqual(
      sequences.map((sequence) => sequence.ids.length),
    );
    expect(tokenizer.decode(sequences[1]!.ids)).toBe(
      '<|im_start|>user\nCount!<|im_end|>\n<|im_start|>assistant\nTwo<|im_end|>\n',
    );
    expect(tokenizer.decode(ids.filter((_, index) => mask[index] === 1))).toBe(
      'One<|im_end|>\nTwo<|im_end|>\nThree<|im_end|>\nFour<|im_end|>\nFive<|im_end|>\n',
    );
    const trainedTokens = mask.reduce((sum, flag) => sum + flag, 0);
    expect(training).toMatchObject({ count: 5, tokens: ids.length, trainedTokens, longest: report.rows.longest });
    expect(report.tokens).toEqual({
      per_epoch: ids.length,
      trained_per_epoch: trainedTokens,
      total: 3 * ids.length,
      validation: 0,
    });
  });

  it('names precision that is asked for', async () => {
    const model = await tinyDecoder('qwen2', null);
    const { report } = await plan(model, 'text', texts('ab'), { training: { precision: 'float32' } });
    expect(report.precision.chosen).toBe('float32');
  });

  it('warns of a warm-up that takes all steps', async () => {
    const model = await tinyDecoder('qwen2', null);
    const codesOf = async (training: object) => {
      const { report } = await plan(model, 'text', texts('One', 'Two'), { training });
      return report.warnings.map(({ code }) => code);
    };
    expect(await codesOf({ warmup_ratio: 0.9 })).toEqual(['warmup_covers_all_steps']);
    expect(await codesOf({})).toEqual([]);
    expect(await codesOf({ max_steps: 1 })).toEqual([]);
  });

  it('warns of a schedule with which the adapter changes next to nothing', async () => {
    const model = await tinyDecoder('qwen2', null);
    const warned = async (training: object, lora: object = {}) => {
      const { report } = await plan(model, 'text', texts('One', 'Two'), { training, lora });
      return report.warnings;
    };
    const [warning, ...others] = await warned({ learning_rate: 5e-6, max_steps: 18 });
    expect(others).toEqual([]);
    expect(warning).toEqual({
      code: 'schedule_moves_nothing',
      message:
        'The adapter would change next to nothing: with a learning_rate of 0.000005 over 18 steps, no number of A or B moves by more than 0.000045. ' +
        'Raise training.learning_rate, for instance to 0.0001, or train for more steps.',
      param: 'training.learning_rate',
    });
    // A schedule, a scale or a rate of B that moves it.
    expect(await warned({ learning_rate: 5e-6, max_steps: 18, lr_scheduler: 'constant' })).toHaveLength(1);
    expect(await warned({ learning_rate: 5e-6, max_steps: 400 })).toEqual([]);
    expect(await warned({ learning_rate: 1e-4, max_steps: 18 })).toEqual([]);
    expect(await warned({ learning_rate: 5e-6, max_steps: 18 }, { lora_plus_ratio: 16 })).toEqual([]);
    expect(await warned({ learning_rate: 5e-6, max_steps: 18 }, { alpha: 256 })).toEqual([]);
    expect((await warned({ learning_rate: 1e-4, max_steps: 1 }))[0]!.message).toContain('Train for more steps');
  });

  it.each([
    ['without held-out rows', { training: { eval_every_steps: 1 } }, 'invalid_job'],
    ['of a split of 0', { training: { eval_every_steps: 1 }, validation: { split: 0 } }, 'invalid_job'],
    ['up to the end', { training: { eval_every_steps: 3 }, validation: { split: 0.5 } }, []],
    [
      'beyond the end',
      { training: { eval_every_steps: 4 }, validation: { split: 0.5 } },
      ['eval_every_steps_too_large'],
    ],
  ])('refuses or warns of evaluations %s', async (_, settings, outcome) => {
    const model = await tinyDecoder('qwen2', null);
    const planned = plan(model, 'text', texts('One', 'Two', 'Three', 'Four'), settings);
    if (typeof outcome === 'string') {
      expect(await refusal(planned)).toMatchObject({ code: outcome, param: 'training.eval_every_steps' });
    } else expect((await planned).report.warnings.map(({ code }) => code)).toEqual(outcome);
  });

  it.each<[number, 'float32' | 'bfloat16', string]>([
    [40, 'float32', 'bfloat16 is not clearly faster: matrix products run at 40 GFLOP/s in bfloat16 and 100 in float32'],
    // Within what other programs on the machine take from a measurement.
    [
      120,
      'float32',
      'bfloat16 is not clearly faster: matrix products run at 120 GFLOP/s in bfloat16 and 100 in float32',
    ],
    [240, 'bfloat16', 'Faster: matrix products run at 240 GFLOP/s in bfloat16 and 100 in float32'],
  ])('says which precision a measured machine is faster in, and why: bfloat16 at %i', async (rate, chosen, reason) => {
    const machine = aMachine({ rates: { float32: RATES, bfloat16: { ...RATES, matmul_gflops: rate } } });
    const model = await tinyDecoder('qwen2', null);
    const auto = await plan(model, 'text', texts('ab'), {}, { machine });
    expect(auto.report.precision).toMatchObject({ chosen, reason: expect.stringContaining(reason) });
    // It is what the estimate is of.
    const asked = await plan(model, 'text', texts('ab'), { training: { precision: chosen } }, { machine });
    expect(auto.report.estimate).toEqual(asked.report.estimate);
  });

  it.each([['auto'], ['bfloat16']] as const)('plans in float32 on a GPU without bfloat16: %s', async (precision) => {
    const machine = aMachine({
      rates: { float32: RATES, bfloat16: null },
      engine: { kind: 'tensorflow', card: null, self_test: null },
    });
    const model = await tinyDecoder('qwen2', null);
    const { report } = await plan(model, 'text', texts('ab'), { training: { precision } }, { machine });
    expect(report.precision).toMatchObject({
      chosen: 'float32',
      reason: expect.stringMatching(/compute capability 8\.0/),
    });
    expect(report.estimate!.seconds_per_step).toBeGreaterThan(0);
  });

  it("says what of the model's config is not done", async () => {
    const model = await tinyDecoder('qwen2', null, { ignoredDropout: ['attn_pdrop', 'resid_pdrop'] });
    const { report } = await plan({ ...model, untiedByFiles: true }, 'text', texts('ab'));
    expect(report.warnings).toMatchObject([
      { code: 'base_dropout_ignored', message: expect.stringContaining('attn_pdrop, resid_pdrop') },
      { code: 'untied_output_head' },
    ]);
  });

  describe('of a mixture of experts', () => {
    const mixture = async () => {
      const parameters = ['gate_up_proj', 'down_proj'].map((name) => {
        const [in_features, out_features] = name === 'down_proj' ? [16, 32] : [32, 32];
        return { name: `model.layers.1.mlp.experts.${name}`, in_features, out_features, experts: 6 };
      });
      const experts = {
        ...{ count: 6, perToken: 2, intermediateSize: 16, renormalized: true, shared: null },
        files: 'each' as const,
      };
      const layers = [TINY_LAYER, { ...TINY_LAYER, mlp: { kind: 'sparse', experts } as const }];
      return { ...(await tinyDecoder('qwen2', null, { layers })), parameters };
    };
    const ofExperts = { target_modules: ['q_proj'], target_parameters: ['mlp.experts.down_proj'] };

    it('counts A and B of each expert, and says which share of the base they reach', async () => {
      const model = await mixture();
      const lora = { r: 4, rank_pattern: { 'experts.down_proj': 2 }, ...ofExperts };
      const { report, targets } = await plan(model, 'text', texts('ab'), { lora });
      const name = 'model.layers.1.mlp.experts.down_proj';
      expect(targets.at(-1)).toMatchObject({ name, experts: 6, rank: 2, scale: 8 });
      const trained = 2 * 4 * (32 + 32) + 6 * 2 * (16 + 32);
      const adapted = 2 * 32 * 32 + 6 * 16 * 32;
      expect(report.parameters).toMatchObject({ trained, adapted_percent: (100 * adapted) / model.parameterCount });
      expect(report.adapter_bytes).toBeGreaterThan(4 * 4 * (2 * (32 + 32) + 6 * (16 + 32)));
      expect(report.warnings).toEqual([]);
    });

    it('warns if the experts are left as they are', async () => {
      const { report } = await plan(await mixture(), 'text', texts('ab'));
      expect(report.warnings).toMatchObject([
        {
          code: 'experts_not_adapted',
          message: expect.stringContaining('["mlp.experts.down_proj","mlp.experts.gate_up_proj"]'),
        },
      ]);
    });

    it('refuses parameters of experts in a model without experts, and does not warn there', async () => {
      const model = await tinyDecoder('qwen2', null);
      expect((await plan(model, 'text', texts('ab'))).report.warnings).toEqual([]);
      const refused = await refusal(plan(model, 'text', texts('ab'), { lora: ofExperts }));
      expect(refused).toMatchObject({ code: 'unmatched_target', param: 'lora.target_parameters' });
    });

    it('warns if PEFT takes adapted MLPs for experts, which it does in some families', async () => {
      const lora = { ...ofExperts, target_modules: 'all-linear' } as const;
      const own = await mixture();
      const inFamily = async (family: DecoderArchitecture['family'], chosen: object) => {
        const model = { ...own, architecture: { ...own.architecture, family } as DecoderArchitecture };
        const { report } = await plan(model, 'text', texts('ab'), { lora: chosen });
        return report.warnings;
      };
      expect(await inFamily('qwen3_moe', lora)).toMatchObject([
        {
          code: 'peft_takes_mlp_for_experts',
          message: expect.stringMatching(/2 adapted MLP layers.*\["q_proj","v_proj"\]/),
          param: 'lora.target_modules',
        },
      ]);
      expect(await inFamily('qwen3_moe', ofExperts)).toEqual([]);
      expect(await inFamily('qwen2_moe', lora)).toEqual([]);
    });

    it('refuses dropout with them, as PEFT does', async () => {
      const planning = plan(await mixture(), 'text', texts('ab'), { lora: { ...ofExperts, dropout: 0.1 } });
      expect(await refusal(planning)).toMatchObject({ code: 'invalid_job', param: 'lora.dropout' });
    });
  });

  it('holds complete rows out by the seed, before any is split', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = Array.from({ length: 10 }, (_, index) => textOf(index + 20));
    const settings = (seed: number, max_seq_length = 64) => ({
      validation: { split: 0.2 },
      training: { seed, max_seq_length, on_overflow: 'split' },
    });
    const first = await plan(model, 'text', rows, settings(1));
    const again = await plan(model, 'text', rows, settings(1));
    const other = await plan(model, 'text', rows, settings(3));
    const split = await plan(model, 'text', rows, settings(1, 8));
    const heldOut = linesOf(first.validation!);
    expect(heldOut).toHaveLength(2);
    expect([...linesOf(first.training), ...heldOut].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(linesOf(again.validation!)).toEqual(heldOut);
    expect(linesOf(other.validation!)).not.toEqual(heldOut);
    expect([...new Set(linesOf(split.validation!))]).toEqual(heldOut);
    expect(split.report.rows).toMatchObject({ split: 10, overflowed: 10, validation: split.validation!.count });
    expect(split.validation!.count).toBeGreaterThan(2);
  });

  it('counts what overflowed', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = texts('ab', 'abcdefghij', '0123456789012345678901234567890');
    const training = { max_seq_length: 8 };
    const truncated = await plan(model, 'text', rows, { training: { ...training, on_overflow: 'truncate' } });
    expect(truncated.report.rows).toMatchObject({ training: 3, overflowed: 2, truncated: 2, dropped: 0, longest: 32 });
    expect(truncated.training.tokens).toBe(3 + 8 + 8);
    const dropped = await plan(model, 'text', rows, { training: { ...training, on_overflow: 'drop' } });
    expect(dropped.report.rows).toMatchObject({ training: 1, overflowed: 2, truncated: 0, dropped: 2 });
    expect(linesOf(dropped.training)).toEqual([1]);
  });

  it('drops and counts a row of which truncation leaves nothing to learn', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = [
      { prompt: 'a rather long prompt', completion: 'b' },
      { prompt: 'a', completion: 'b' },
    ];
    const settings = { training: { max_seq_length: 8, on_overflow: 'truncate' } };
    const { report } = await plan(model, 'prompt_completion', rows, settings);
    expect(report.rows).toMatchObject({ training: 1, overflowed: 1, truncated: 0, dropped: 1 });
    const error = await refusal(plan(model, 'prompt_completion', rows.slice(0, 1), settings));
    expect(error).toMatchObject({ code: 'row_too_long', param: 'training.max_seq_length' });
  });

  it('warns of what the chat template leaves out', async () => {
    const model = await tinyDecoder(
      'qwen2',
      CHATML.replace("message['content']", "message['content'].split('</think>')[-1].strip()"),
    );
    const answers = ['b', ' b\n', '<think>\nHm.\n</think>\n\nb', '</think>'];
    const rows = answers.map((completion) => ({ prompt: 'a', completion }));
    const { report } = await plan(model, 'prompt_completion', rows);
    expect(report.warnings).toMatchObject([
      { code: 'message_content_dropped', line: 3, message: expect.stringMatching(/^2 rows/) },
    ]);
  });

  it('warns of reasoning that the chat template leaves out of earlier turns', async () => {
    const reasoning =
      "{% if message.reasoning_content and loop.last %}<think>{{ message['reasoning_content'] }}</think>{% endif %}";
    const model = await tinyDecoder('qwen2', CHATML.replace("{{ '<|im_start|>'", `${reasoning}{{ '<|im_start|>'`));
    const user = { role: 'user' as const, content: 'a' };
    const thought = { role: 'assistant' as const, content: 'b', reasoning_content: 'Hm.' };
    const rows = [{ messages: [user, thought] }, { messages: [user, thought, user, thought] }];
    const { report } = await plan(model, 'messages', rows);
    expect(report.warnings).toMatchObject([
      { code: 'message_content_dropped', line: 2, message: expect.stringMatching(/^1 rows/) },
    ]);
  });

  it('warns of what splitting leaves out', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = [
      { prompt: 'a', completion: 'b' },
      { prompt: '0123456789012345678', completion: '01234567890123' },
      { prompt: '0123456789', completion: '0123' },
    ];
    const settings = { training: { max_seq_length: 8, on_overflow: 'split' } };
    const { report, training } = await plan(model, 'prompt_completion', rows, settings);
    // 34 tokens: 8 and 8 of the prompt alone, the rest with the answer; 15 tokens: 8 of the prompt alone.
    expect(report.rows).toMatchObject({ training: 5, overflowed: 2, split: 2, dropped: 0 });
    expect(training.tokens).toBe(3 + (34 - 16) + (15 - 8));
    expect(report.warnings).toMatchObject([
      { code: 'untrained_sequences_dropped', line: 2, message: expect.stringMatching(/^3 pieces .*, with 24 tokens,/) },
    ]);
  });

  it("keeps rows within the model's positions, and says so", async () => {
    const model = await tinyDecoder('qwen2', null, { maxPositions: 8 });
    const { report, training } = await plan(model, 'text', [textOf(30)], { training: { on_overflow: 'truncate' } });
    expect(training.tokens).toBe(8);
    expect(report.warnings).toMatchObject([{ code: 'max_seq_length_limited', param: 'training.max_seq_length' }]);
    expect(await refusal(plan(model, 'text', [textOf(30)]))).toMatchObject({
      code: 'row_too_long',
      message: expect.stringContaining('8 positions'),
    });
  });

  it('warns of special tokens in the text', async () => {
    const model = await tinyDecoder('qwen2', null);
    const { report } = await plan(model, 'text', texts('ab', 'a<|im_end|>b', '<|im_start|>b'));
    expect(report.warnings).toMatchObject([
      { code: 'special_token_in_text', line: 2, message: expect.stringMatching(/^2 rows .*<\|im_end\|>/) },
    ]);
  });

  it('reports every fault with its location under the code of the first', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = [{ text: 'ab' }, textOf(30), '{"text":', { text: 'a', more: 1 }, { prompt: 'a', completion: 'b' }, {}];
    const settings = { training: { max_seq_length: 16 }, lora: { target_modules: ['q_proj', 'gate'] } };
    const error = await refusal(plan(model, 'text', rows, settings));
    expect(error.code).toBe('unmatched_target');
    expect(error.details.map(({ code, line, param }) => [code, line ?? param])).toEqual([
      ['unmatched_target', 'lora.target_modules.1'],
      ['row_too_long', 2],
      ['invalid_dataset', 3],
      ['unknown_field', 4],
      ['invalid_dataset', 5],
      ['invalid_dataset', 6],
    ]);
    expect(error.message).toContain('6 faults');
  });

  it('finds what is wrong without rows in its outline, too, and reserves the same bytes', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = [{ text: 'ab' }, textOf(30)];
    const wrong = {
      training: { max_seq_length: 16, early_stopping: { patience: 1 } },
      lora: { target_modules: ['q_proj', 'gate'], rank_pattern: { v_proj: 2 } },
      validation: { split: 0.9 },
    };
    const job = await jobOf(model, 'features', rows, wrong);
    const ofOutline = await refusal(planWithoutRows(job));
    expect(ofOutline.details.map(({ param }) => param)).toEqual([
      'lora.target_modules.1',
      'training.early_stopping',
      'validation.split',
      'dataset',
    ]);
    const ofPlan = await refusal(planJob(job));
    expect(ofPlan).toMatchObject({ code: ofOutline.code, message: ofOutline.message, details: ofOutline.details });

    const right = await jobOf(model, 'text', rows, { lora: { target_modules: 'all-linear', r: 4 } });
    expect(await planWithoutRows(right)).toEqual({
      adapterBytes: (await plan(model, 'text', rows, { lora: { target_modules: 'all-linear', r: 4 } })).report
        .adapter_bytes,
    });
  });

  it('refuses a model with linear attention on a machine whose engine has no kernels for it', async () => {
    const usual = await tinyDecoder('qwen2', CHATML);
    const architecture = usual.architecture as DecoderArchitecture;
    const mixer: LinearAttention = {
      kind: 'linear',
      ...{ keyHeadCount: 1, valueHeadCount: 1, keyHeadDim: 2, valueHeadDim: 2, convolutionTaps: 4 },
    };
    const [first, ...others] = architecture.layers;
    const model = { ...usual, architecture: { ...architecture, layers: [{ ...first!, mixer }, ...others] } };
    const machineWith = (kind: EngineKind) => ({
      machine: aMachine({
        rates: { float32: RATES, bfloat16: null },
        engine: { kind, card: null, self_test: null },
      }),
    });
    const right = { lora: { target_modules: 'all-linear', r: 4 } };
    const rows = [{ text: 'ab' }];
    const job = { ...(await jobOf(model, 'text', rows, right)), ...machineWith('tensorflow') };
    for (const refused of [await refusal(planWithoutRows(job)), await refusal(planJob(job))]) {
      expect(refused).toMatchObject({ code: 'model_not_supported', param: 'base_model' });
      expect(refused.message).toContain('The engine tensorflow has no kernels for the linear attention of');
    }
    for (const kind of ['cpu', 'cuda'] as const) {
      await planWithoutRows({ ...(await jobOf(model, 'text', rows, right)), ...machineWith(kind) });
    }
    await planWithoutRows({ ...(await jobOf(usual, 'text', rows, right)), ...machineWith('tensorflow') });
  });

  it('makes tokens of the prompts of samples as rows have them', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const tokenizer = await loadTokenizer(model.path);
    const conversation = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Count!' },
    ];
    const samples = { prompts: ['Count!', conversation] };
    const asked = '<|im_start|>user\nCount!<|im_end|>\n<|im_start|>assistant\n';
    const inTurns = [asked, `<|im_start|>system\nBe brief.<|im_end|>\n${asked}`].map((text) => tokenizer.encode(text));
    const { prompts, training } = await plan(model, 'prompt_completion', [{ prompt: 'Count!', completion: 'One' }], {
      samples,
    });
    expect(prompts).toEqual(inTurns);
    const { ids, trained } = (training as TokenExamples).sequence(0);
    expect(ids.slice(0, trained.indexOf(1))).toEqual(prompts[0]);
    // A text is continued.
    expect((await plan(model, 'text', texts('Count!'), { samples })).prompts).toEqual([
      tokenizer.encode('Count!'),
      inTurns[1],
    ]);
    const untemplated = await tinyDecoder('qwen2', null);
    const rows = [{ instruction: 'Count!', output: 'One' }];
    const instruction = await plan(untemplated, 'instruction', rows, { samples: { prompts: ['Count!'] } });
    expect(tokenizer.decode(instruction.prompts[0]!)).toMatch(/Instruction:\nCount!\n\n### Response:\n$/);
  });

  it('reports what is wrong with each prompt of samples, without the rows, too', async () => {
    const conversation = (content: string) => [{ role: 'user', content }];
    const rows = [{ prompt: 'a', completion: 'b' }];
    const faultsOf = async (template: string | null, prompts: unknown[], samples: object = {}) => {
      const model = await tinyDecoder('qwen2', template);
      const job = await jobOf(model, 'prompt_completion', rows, { samples: { prompts, max_tokens: 64, ...samples } });
      const { details } = await refusal(planWithoutRows(job));
      expect((await refusal(planJob(job))).details).toEqual(details);
      return details.map(({ code, param, message }) => [param, code, message]);
    };
    const refusing = `{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}${CHATML}`;
    expect(await faultsOf(refusing, ['fine', 'no', 'x'.repeat(450), 'a\ud800', conversation('no')])).toEqual([
      ['samples.prompts.1', 'chat_template_failed', expect.stringContaining('not this')],
      [
        'samples.prompts.2',
        'invalid_job',
        expect.stringMatching(/^The prompt has 4\d\d tokens.* 64 are more than 512/),
      ],
      ['samples.prompts.3', 'invalid_job', expect.stringContaining('lone surrogate')],
      ['samples.prompts.4', 'chat_template_failed', expect.stringContaining('not this')],
    ]);
    expect(await faultsOf(null, ['fine', conversation('a')])).toEqual([
      ['samples.prompts.1', 'invalid_job', expect.stringContaining('no chat template')],
    ]);
    const classifier = await jobOf(tinyClassifier(), 'features', [{ features: [1, 2, 3], label: 0 }], {
      lora: { target_modules: 'all-linear' },
      samples: { prompts: ['a'] },
    });
    expect(await refusal(planWithoutRows(classifier))).toMatchObject({ code: 'invalid_job', param: 'samples' });
    const often = { samples: { prompts: ['a'], every_steps: 3 }, training: { max_steps: 1_000 } };
    const tooOften = await refusal(plan(await tinyDecoder('qwen2', CHATML), 'prompt_completion', rows, often));
    expect(tooOften).toMatchObject({ code: 'invalid_job', param: 'samples.every_steps' });
    expect(tooOften.message).toContain('335 times; 100 is the most. Set samples.every_steps to 11 or more');
  });

  it('has the prompts and the answers of held-out rows, and refuses rows that have none', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const tokenizer = await loadTokenizer(model.path);
    const turn = (role: string, content: string) => ({ role, content });
    const rows = ['one', 'two', 'six'].map((text) => ({
      messages: [turn('user', 'a'), turn('assistant', 'b'), turn('user', 'c'), turn('assistant', text)],
    }));
    const samples = { prompts: [], held_out_rows: 8, max_tokens: 4 };
    const validation = await datasetOf(HELD_OUT, 'messages', rows.slice(1));
    const { scored, prompts, validation: held } = await plan(model, 'messages', rows, { samples }, { validation });
    expect(prompts).toEqual([]);
    expect(
      scored.map(({ referenceIds }) => tokenizer.decode(referenceIds, { skipSpecialTokens: true }).trim()),
    ).toEqual(['two', 'six']);
    const { ids } = (held as TokenExamples).sequence(0);
    const [{ promptIds, referenceIds }] = scored as [ScoredRow];
    expect([...promptIds, ...referenceIds]).toEqual([...ids.slice(0, promptIds.length + referenceIds.length)]);
    expect(tokenizer.decode(promptIds)).toMatch(
      /b<\|im_end\|>\n<\|im_start\|>user\nc<\|im_end\|>\n<\|im_start\|>assistant\n$/,
    );
    const one = { ...samples, held_out_rows: 1 };
    expect((await plan(model, 'messages', rows, { samples: one, validation: { split: 0.5 } })).scored).toHaveLength(1);
    // A prompt that leaves no place for an answer is left out.
    const small = await tinyDecoder('qwen2', CHATML, { maxPositions: ids.length });
    const most = { ...samples, max_tokens: ids.length - 1 };
    expect((await plan(small, 'messages', rows, { samples: most, validation: { split: 0.5 } })).scored).toEqual([]);

    const faultOf = async (format: UploadedDataset['format'], rows: object[], more: object = {}) =>
      await refusal(planWithoutRows(await jobOf(model, format, rows, { samples, ...more })));
    expect(await faultOf('messages', rows)).toMatchObject({ code: 'invalid_job', param: 'samples.held_out_rows' });
    expect(await faultOf('text', texts('a', 'b', 'c'), { validation: { split: 0.5 } })).toMatchObject({
      code: 'invalid_job',
      message: expect.stringContaining('a prompt and one answer'),
    });
    expect(await faultOf('messages', rows, { samples: { prompts: [] } })).toMatchObject({ param: 'samples.prompts' });
  });

  it('lists a hundred faults and counts the rest', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = Array.from({ length: 250 }, () => textOf(30));
    const error = await refusal(plan(model, 'text', rows, { training: { max_seq_length: 16 } }));
    expect(error.code).toBe('row_too_long');
    expect(error.details).toHaveLength(100);
    expect(error.details[99]).toMatchObject({ line: 100 });
    expect(error.message).toMatch(/^Line 1: .*31 tokens.*250 faults/);
  });

  it('refuses a row without trained tokens', async () => {
    const model = await tinyDecoder('qwen2', "{% for m in messages %}{{ m.role if m.role == 'user' }}{% endfor %}");
    const rows = [{ prompt: 'a', completion: 'b' }];
    expect(await refusal(plan(model, 'prompt_completion', rows))).toMatchObject({
      code: 'no_trained_tokens',
      details: [{ code: 'no_trained_tokens', line: 1 }],
    });
  });

  it('refuses token ids that the model does not have', async () => {
    const model = await tinyDecoder('qwen2', null, { vocabSize: 100 });
    expect(await refusal(plan(model, 'text', texts('!', 'ÿÿ')))).toMatchObject({
      code: 'model_file_corrupt',
      details: [{ line: 2 }],
    });
  });

  it('refuses a template that fails, at the row it fails on', async () => {
    const model = await tinyDecoder(
      'qwen2',
      `{{ raise_exception('No system') if messages[0].role == 'system' }}${CHATML}`,
    );
    const answer = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ];
    const rows = [{ messages: answer }, { messages: [{ role: 'system', content: 's' }, ...answer] }];
    const error = await refusal(plan(model, 'messages', rows));
    expect(error).toMatchObject({ code: 'chat_template_failed', details: [{ line: 2 }] });
    expect(error.message).toContain('No system');
  });

  it('needs a template only for rows that use one', async () => {
    const broken = await tinyDecoder('qwen2', '{% if %}');
    await expect(plan(broken, 'text', texts('ab'))).resolves.toBeDefined();
    const none = await tinyDecoder('qwen2', null);
    const rows = [{ messages: [{ role: 'assistant', content: 'a' }] }];
    expect(await refusal(plan(none, 'messages', rows))).toMatchObject({ code: 'dataset_format_mismatch' });
    expect(await refusal(plan(broken, 'messages', rows))).toMatchObject({ code: 'chat_template_failed' });
  });

  it('refuses rows that are not the ones that were uploaded', async () => {
    const model = await tinyDecoder('qwen2', null);
    const error = await refusal(plan(model, 'text', [{ text: 'ab' }, '']));
    expect(error).toMatchObject({ code: 'invalid_dataset', param: 'dataset' });
  });

  it('refuses a split that leaves a side without rows', async () => {
    const model = await tinyDecoder('qwen2', null);
    const one = await refusal(plan(model, 'text', texts('ab'), { validation: { split: 0.5 } }));
    expect(one).toMatchObject({ code: 'validation_split_empty', param: 'validation.split' });
    const rows = [...texts('ab', 'abc'), textOf(30), textOf(30)];
    const drop = { max_seq_length: 16, on_overflow: 'drop' };
    const codes = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const settings = { validation: { split: 0.25 }, training: { ...drop, seed } };
      const error = await plan(model, 'text', rows, settings).catch((reason: ProductError) => reason);
      codes.add('code' in error ? error.code : 'planned');
    }
    expect([...codes].sort()).toEqual(['planned', 'validation_split_empty']);
  });

  it('ends when its signal is aborted', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = Array.from({ length: 4000 }, () => textOf(200));
    const settings = { training: { max_seq_length: 512 } };
    const stopping = new AbortController();
    const options = { signal: stopping.signal, onProgress: () => stopping.abort() };
    const error = await refusal(plan(model, 'text', rows, settings, options));
    expect(error.code).toBe('cancelled');
  });
});

describe('planJob for a classifier', () => {
  it('takes rows of numbers', async () => {
    const rows = [0, 1, 1].map((label, index) => ({ features: [index, 0.5, -1], label }));
    const settings = { lora: { target_modules: 'all-linear', r: 2 }, training: { batch_size: 2 } };
    const { report, training, targets } = await plan(tinyClassifier(), 'features', rows, settings);
    expect(report.precision.chosen).toBe('float32');
    expect(Value.Errors(Report, report)).toEqual([]);
    expect(training).toMatchObject({ kind: 'classification', width: 3, count: 3, longest: 1 });
    expect(linesOf(training)).toEqual([1, 2, 3]);
    expect(numbersOf(training).map((number) => (training as FeatureExamples).row(number))).toEqual([
      { features: Float32Array.of(0, 0.5, -1), label: 0 },
      { features: Float32Array.of(1, 0.5, -1), label: 1 },
      { features: Float32Array.of(2, 0.5, -1), label: 1 },
    ]);
    expect(targets.map(({ name }) => name)).toEqual(['0', '2']);
    expect(report.parameters).toMatchObject({ trained: 2 * (3 + 4) + 2 * (4 + 2), total: 52 });
    expect(report.tokens).toEqual({ per_epoch: 3, trained_per_epoch: 3, total: 9, validation: 0 });
  });

  it('refuses another width, a label out of range, and text', async () => {
    const settings = { lora: { target_modules: 'all-linear' } };
    const rows = [
      { features: [1, 2], label: 0 },
      { features: [1, 2, 3], label: 2 },
    ];
    expect((await refusal(plan(tinyClassifier(), 'features', rows, settings))).details).toMatchObject([
      { code: 'dataset_format_mismatch', line: 1, param: 'features' },
      { code: 'label_out_of_range', line: 2, param: 'label' },
    ]);
    expect(await refusal(plan(tinyClassifier(), 'text', texts('ab'), settings))).toMatchObject({
      code: 'dataset_format_mismatch',
      param: 'dataset',
    });
    const decoder = await tinyDecoder('qwen2', null);
    expect(await refusal(plan(decoder, 'features', rows))).toMatchObject({ code: 'dataset_format_mismatch' });
  });
});

describe('planJob with a validation dataset', () => {
  const machine = aMachine({ worker: 'cpu-1', rates: { float32: RATES, bfloat16: null } });
  const drop = { training: { max_seq_length: 16, on_overflow: 'drop' } };
  const identityOf = async (model: ModelFolder, ...rows: object[]) => {
    const validation = await datasetOf(HELD_OUT, 'text', rows);
    return (await plan(model, 'text', texts('ab', 'cd'), {}, { validation })).examplesSha256;
  };

  it('evaluates on its rows, which are cut like the others, and reports them', async () => {
    const model = await tinyDecoder('qwen2', null);
    const validation = await datasetOf(HELD_OUT, 'text', [...texts('efg', 'hijk'), textOf(30)]);
    const { report, ...planned } = await plan(model, 'text', texts('a', 'ab', 'abc', 'abcd'), drop, { validation });
    expect(linesOf(planned.training)).toEqual([1, 2, 3, 4]);
    expect(linesOf(planned.validation!)).toEqual([1, 2]);
    // Each row ends with a token of its own.
    expect(sequencesOf(planned.validation!).map(({ ids }) => ids.length)).toEqual([4, 5]);
    expect(Value.Errors(Report, report)).toEqual([]);
    expect(report.rows).toMatchObject({ total: 4, training: 4, validation: 2, overflowed: 0, longest: 5 });
    expect(report.tokens.validation).toBe(9);
    const handled = { overflowed: 1, dropped: 1, truncated: 0, split: 0, longest: 31 };
    expect(report.validation_dataset).toEqual({ id: HELD_OUT, rows: 3, ...handled });
    expect(report.warnings).toEqual([]);
  });

  it('takes another format of the same objective, and refuses any other', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const asked = await datasetOf(HELD_OUT, 'prompt_completion', [{ prompt: 'a', completion: 'b' }]);
    expect((await plan(model, 'text', texts('ab'), {}, { validation: asked })).validation!.count).toBe(1);
    const features = await datasetOf(HELD_OUT, 'features', [{ features: [1], label: 0 }]);
    const error = await refusal(plan(model, 'text', texts('ab'), {}, { validation: features }));
    expect(error).toMatchObject({ code: 'dataset_format_mismatch', param: 'validation.dataset' });
    expect(error.details).toHaveLength(1);
  });

  it('locates the faults of both datasets', async () => {
    const model = await tinyDecoder('qwen2', null);
    const validation = await datasetOf(HELD_OUT, 'text', [...texts('ab'), textOf(40)]);
    const settings = { training: { max_seq_length: 16 } };
    const ofBoth = await refusal(plan(model, 'text', [textOf(20), ...texts('ab')], settings, { validation }));
    expect(ofBoth.details).toMatchObject([
      { code: 'row_too_long', line: 1 },
      { code: 'row_too_long', line: 2, dataset: HELD_OUT },
    ]);
    expect(ofBoth.details[0]).not.toHaveProperty('dataset');
    const ofOne = await refusal(plan(model, 'text', texts('ab'), settings, { validation }));
    expect(ofOne.message).toContain(`Line 2 of the validation dataset ${HELD_OUT}: The row has 41 tokens`);
  });

  it('refuses a dataset of which no row is left, one that was changed, and a split beside it', async () => {
    const model = await tinyDecoder('qwen2', null);
    const long = await datasetOf(HELD_OUT, 'text', [textOf(30)]);
    const none = await refusal(plan(model, 'text', texts('ab'), drop, { validation: long }));
    expect(none).toMatchObject({ code: 'row_too_long', param: 'training.max_seq_length' });
    const validation = await datasetOf(HELD_OUT, 'text', texts('abc'));
    const both = await refusal(plan(model, 'text', texts('ab', 'c'), { validation: { split: 0.5 } }, { validation }));
    expect(both).toMatchObject({ code: 'invalid_job', param: 'validation.split' });
    const other = await datasetOf(HELD_OUT, 'text', texts('never tokenized'));
    await writeFile(other.rowsFile, JSON.stringify({ text: 'something else' }));
    const changed = await refusal(plan(model, 'text', texts('ab'), {}, { validation: other }));
    expect(changed).toMatchObject({ code: 'invalid_dataset', param: 'validation.dataset' });
  });

  it('satisfies early stopping, and warns of the rows that are trained on', async () => {
    const model = await tinyDecoder('qwen2', null);
    const validation = await datasetOf(TRAINED, 'text', texts('ab'));
    const training = { eval_every_steps: 1, early_stopping: { patience: 1 } };
    const { report } = await plan(model, 'text', texts('ab'), { training }, { validation });
    expect(report.publish).toBe('best');
    const warned = { code: 'validation_on_training_rows', param: 'validation.dataset' };
    expect(report.warnings).toEqual([expect.objectContaining(warned)]);
  });

  it('warns of rows that are also trained on, with the same tokens and the same of them trained', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const warningsWith = async (rows: object[], format: UploadedDataset['format'] = 'text') => {
      const validation = await datasetOf(HELD_OUT, format, rows);
      return (await plan(model, 'text', texts('ab', 'ab', 'cd', 'xyz'), {}, { validation })).report.warnings;
    };
    const message = expect.stringMatching(/^2 of the 4 rows of the validation dataset are also trained on/);
    expect(await warningsWith(texts('ef', 'ab', 'xyz', 'abc'))).toEqual([
      { code: 'validation_on_training_rows', message, param: 'validation.dataset' },
    ]);
    expect(await warningsWith(texts('ba', 'a', 'abcd'))).toEqual([]);
    // The same text, of which another part is trained.
    expect(await warningsWith([{ prompt: 'a', completion: 'b' }], 'prompt_completion')).toEqual([]);
  });

  it('says of which dataset a warning is', async () => {
    const model = await tinyDecoder('qwen2', CHATML);
    const validation = await datasetOf(HELD_OUT, 'prompt_completion', [{ prompt: '<|im_end|>', completion: 'b' }]);
    const { report } = await plan(model, 'text', texts('ab'), {}, { validation });
    const message = expect.stringContaining('In the validation dataset: 1 rows contain a special token');
    expect(report.warnings).toEqual([{ code: 'special_token_in_text', message, line: 1, dataset: HELD_OUT }]);
  });

  it('is the same run only with the same rows', async () => {
    const model = await tinyDecoder('qwen2', null);
    const first = await identityOf(model, { text: 'abc' });
    expect(await identityOf(model, { text: 'abd' })).not.toBe(first);
    expect(await identityOf(model, { text: 'abc' })).toBe(first);
    expect((await plan(model, 'text', texts('ab', 'cd'))).examplesSha256).not.toBe(first);
  });

  it('counts the rows of both datasets as they become tokens', async () => {
    const model = await tinyDecoder('qwen2', null);
    const validation = await datasetOf(HELD_OUT, 'text', texts('abc', 'def', 'ghi'));
    const seen: [number, number][] = [];
    const onProgress = ({ rows, totalRows }: { rows: number; totalRows: number }) => void seen.push([rows, totalRows]);
    await plan(model, 'text', texts('ab', 'cd'), {}, { validation, onProgress });
    expect(seen[0]).toEqual([0, 5]);
    expect(seen.at(-1)).toEqual([5, 5]);
    expect(seen.map(([rows]) => rows)).toEqual(seen.map(([rows]) => rows).sort());
  });

  it('counts the memory and the time of its evaluations', async () => {
    const model = await tinyDecoder('qwen2', null);
    const settings = { training: { batch_size: 4 } };
    const estimateWith = async (...rows: object[]) => {
      const validation = await datasetOf(HELD_OUT, 'text', rows);
      return (await plan(model, 'text', texts('ab', 'cd'), settings, { validation, machine })).report.estimate!;
    };
    const short = await estimateWith(textOf(2));
    const long = await estimateWith(...Array.from({ length: 8 }, () => textOf(400)));
    expect(long.total_seconds).toBeGreaterThan(short.total_seconds);
    // A batch of 4 of these rows, of which each token has at least its float32 residual stream.
    expect(long.peak_memory_bytes - short.peak_memory_bytes).toBeGreaterThan(4 * 400 * 4 * 32);
  });

  it('recomputes for a resumed run what its own precision needs', async () => {
    const model = await tinyDecoder('qwen2', null);
    const rows = Array.from({ length: 8 }, () => textOf(400));
    const rates = { float32: RATES, bfloat16: RATES };
    const planOn = async (training: object, size: Partial<MachineProfile> = {}) =>
      await plan(
        model,
        'text',
        rows,
        { training: { batch_size: 8, ...training } },
        { machine: aMachine({ rates, ...size }) },
      );
    const { peak_memory_bytes: peak } = (await planOn({ precision: 'float32', recompute: 'never' })).report.estimate!;
    // Less than that peak may be used of this memory.
    const planned = await planOn({ precision: 'bfloat16' }, { memory_bytes: Math.floor((peak - 1) / 0.95) });
    expect(planned.recomputedLayers('bfloat16')).toBe(0);
    expect(planned.report.estimate!.recomputed_layers).toBe(0);
    expect(planned.recomputedLayers('float32')).toBeGreaterThan(0);
  });

  it('has only labels that a classifier learns', async () => {
    const rows = [0, 0].map((label, index) => ({ features: [index, 0.5, -1], label }));
    const settings = { lora: { target_modules: 'all-linear', r: 2 } };
    const planWith = async (...labels: number[]) => {
      const held = labels.map((label) => ({ features: [1, 2, 3], label }));
      const validation = await datasetOf(HELD_OUT, 'features', held);
      return await plan(tinyClassifier(), 'features', rows, settings, { validation });
    };
    expect((await planWith(0, 0, 0)).validation).toMatchObject({ kind: 'classification', count: 3 });
    expect(await refusal(planWith(0, 1))).toMatchObject({
      code: 'label_out_of_range',
      details: [{ code: 'label_out_of_range', line: 2, dataset: HELD_OUT, param: 'label' }],
    });
    expect(await refusal(planWith(0, 2))).toMatchObject({
      code: 'label_out_of_range',
      details: [{ line: 2, dataset: HELD_OUT, param: 'label' }],
    });
  });
});
