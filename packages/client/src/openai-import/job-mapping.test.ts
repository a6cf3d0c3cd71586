import type { Dataset } from '@lorasmith/contracts';
import { describe, expect, it } from 'vitest';
import { openaiJob } from '../../../../test/openai-server.js';
import { mappedJob } from './job-mapping.js';
import { sourceJobOf } from './source.js';

const TARGET = { name: 'SmolLM2-135M-Instruct', max_positions: 8_192 };
const DATASET = { id: 'ds_0123456789abcdef01234567', rows: 600 } as Dataset;

const mapped = (fields: Record<string, unknown>) => mappedJob(sourceJobOf(openaiJob('ftjob-1', fields), 'it'), TARGET);
const requestOf = (fields: Record<string, unknown>, validation: Dataset | null = null) =>
  mapped(fields).request({ training: DATASET, validation });
const method = (type: string, own: object) => ({ method: { type, [type]: own }, hyperparameters: null });

describe('a job of OpenAI, here', () => {
  it('has its hyperparameters, seed, suffix, metadata and files', () => {
    const validation = { ...DATASET, id: 'ds_111111111111111111111111' };
    const request = requestOf({ metadata: { team: 'support' } }, validation);
    expect(request).toEqual({
      base_model: TARGET.name,
      dataset: DATASET.id,
      training: {
        epochs: 3,
        batch_size: 1,
        learning_rate: 1.8e-4,
        seed: 683058546,
        max_seq_length: 8_192,
        on_overflow: 'truncate',
      },
      validation: { dataset: validation.id },
      name: 'support',
      metadata: { team: 'support' },
    });
  });

  it('has what was automatic from its rows', () => {
    const auto = { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' };
    const { settings, differs, request } = mapped(method('supervised', { hyperparameters: auto }));
    expect(settings).toMatchObject({ n_epochs: 'auto', batch_size: 'auto', learning_rate: 'auto' });
    expect(request({ training: DATASET, validation: null }).training).toMatchObject({ epochs: 3, batch_size: 8 });
    expect(differs).toContain(
      'n_epochs, batch_size, learning_rate_multiplier were automatic there; here they are chosen from the rows, too.',
    );
  });

  it('has the objective of pairs, with its beta', () => {
    const hyperparameters = { beta: 0.3, n_epochs: 2, batch_size: 4, learning_rate_multiplier: 2 };
    const { settings, differs } = mapped(method('dpo', { hyperparameters }));
    expect(settings).toMatchObject({ method: 'dpo', learning_rate: 1e-5 });
    expect(requestOf(method('dpo', { hyperparameters }))).toMatchObject({
      objective: { kind: 'preference', beta: 0.3 },
      training: { epochs: 2, batch_size: 4, learning_rate: 1e-5 },
    });
    expect(differs.join(' ')).not.toContain('beta');
    expect(mapped(method('dpo', {})).differs).toContain('beta was automatic there; here it is 0.1.');
  });

  it('says what differs, a sentence each', () => {
    const { differs } = mapped({
      model: 'ft:gpt-4o-mini-2024-07-18:acme::abc',
      integrations: [{ type: 'wandb' }],
      user_provided_suffix: 'x'.repeat(65),
      hyperparameters: { n_epochs: 1, batch_size: 2, learning_rate_multiplier: 0.1, prompt_loss_weight: 0.01 },
    });
    expect(differs).toEqual([
      'It was trained on ft:gpt-4o-mini-2024-07-18:acme::abc; here it is trained on SmolLM2-135M-Instruct.',
      'learning_rate_multiplier 1.8 is a rate of 0.00018 here (times 0.0001): there it multiplied a rate that is not published.',
      'It continued the training of ft:gpt-4o-mini-2024-07-18:acme::abc; here it begins from SmolLM2-135M-Instruct itself. lora.init_from continues an adapter.',
      'Its integrations are not set up here. The events of the job have its metrics.',
      'Its suffix cannot be a name here, so it has none.',
      'There is no such setting here, so it is left out: prompt_loss_weight.',
    ]);
  });

  it.each([
    ['a method of later', { method: { type: 'distillation' } }, /method "distillation" is not known/],
    ['a number of epochs that is a text', { hyperparameters: { n_epochs: '3' }, method: null }, /n_epochs is neither/],
    ['a batch of nothing', { hyperparameters: { batch_size: 0 }, method: null }, /batch_size is neither/],
  ])('is refused with %s', (_, fields, message) => {
    const code = 'invalid_job';
    expect(() => mapped(fields)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });
});

const reinforcement = (grader: unknown, more: object = {}) => method('reinforcement', { grader, ...more });
const EQUAL = {
  type: 'string_check',
  name: 'g',
  input: '{{ sample.output_text }}',
  reference: '{{item.answer}}',
  operation: 'eq',
};

describe('a reinforcement job of OpenAI, here', () => {
  it('has its grader, whose rows are the reference', () => {
    const hyperparameters = {
      n_epochs: 2,
      batch_size: 16,
      learning_rate_multiplier: 1,
      reasoning_effort: 'low',
      eval_samples: 2,
    };
    const fields = reinforcement(EQUAL, { hyperparameters, response_format: { type: 'json_schema' } });
    expect(requestOf(fields)).toMatchObject({
      objective: {
        kind: 'group-relative',
        grader: {
          type: 'string_check',
          input: '{{sample.output_text}}',
          reference: '{{item.reference.answer}}',
          operation: 'eq',
        },
      },
      training: { epochs: 2, batch_size: 1, gradient_accumulation_steps: 16, learning_rate: 5e-6, on_overflow: 'drop' },
    });
    const { differs, areRowsGraded } = mapped(fields);
    expect(areRowsGraded).toBe(true);
    expect(differs).toContain('There is no such setting here, so it is left out: reasoning_effort, eval_samples.');
    expect(differs.some((one) => one.startsWith('response_format is not applied'))).toBe(true);
  });

  it('has a formula of several graders', () => {
    const similar = {
      type: 'text_similarity',
      input: '{{sample.output_text}}',
      reference: '{{item.answer}}',
      evaluation_metric: 'fuzzy_match',
    };
    const grader = {
      type: 'multi',
      graders: { exact: EQUAL, near: similar },
      calculate_output: '0.5 * exact + 0.5 * near',
    };
    const { objective } = requestOf(reinforcement(grader));
    expect(objective).toMatchObject({
      grader: {
        type: 'multi',
        graders: { exact: { type: 'string_check' }, near: { evaluation_metric: 'fuzzy_match' } },
        calculate_output: '0.5 * exact + 0.5 * near',
      },
    });
  });

  it.each([
    ['that asks a model', { type: 'score_model' }, /"score_model" asks a model of OpenAI/],
    ['that is code', { type: 'python', source: 'def grade(): pass' }, /"python" runs code/],
    [
      'within a formula',
      { type: 'multi', graders: { a: { type: 'label_model' } }, calculate_output: 'a' },
      /label_model/,
    ],
    [
      'of another similarity',
      { ...EQUAL, type: 'text_similarity', evaluation_metric: 'bleu' },
      /evaluation_metric "bleu"/,
    ],
    ['of another operation', { ...EQUAL, operation: 'gt' }, /operation "gt"/],
    ['without a reference', { ...EQUAL, reference: undefined }, /The reference of its grader is not a text/],
    ['that is none', null, /no grader/],
    ['of a name of objects', { type: 'constructor' }, /"constructor" is not known here/],
  ])('is refused with a grader %s', (_, grader, message) => {
    const expected = { code: 'invalid_job', message: expect.stringMatching(message) as string };
    expect(() => mapped(reinforcement(grader))).toThrow(expect.objectContaining(expected));
  });
});
