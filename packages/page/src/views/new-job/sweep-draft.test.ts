import type { JobRequest } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { jobFields } from './job-fields.js';
import {
  addableFields,
  DRAWN,
  EXCLUDED,
  HALVING,
  idOfFault,
  KEPT,
  listedPaths,
  METRIC,
  SEED,
  sweepRequestOf,
  valuesId,
} from './sweep-draft.js';

const fields = jobFields();
const job: JobRequest = { base_model: 'tiny', dataset: 'ds_0123456789abcdef01234567', name: 'mine' };
const [RATES, RANKS, ALPHAS] = ['training.learning_rate', 'lora.r', 'lora.alpha'].map(valuesId) as [
  string,
  string,
  string,
];

test('with several values of a field, a draft is a sweep of its job', () => {
  expect(sweepRequestOf(job, {})).toBeNull();
  expect(sweepRequestOf(job, { [RATES]: ' ', [HALVING]: '10' })).toBeNull();
  const draft = { [RATES]: '1e-4..3e-3:log', [RANKS]: ' 4, 8', [ALPHAS]: '', [HALVING]: '10', [METRIC]: 'accuracy' };
  expect(sweepRequestOf(job, draft)).toEqual({
    job: { ...job, validation: { split: 0.1 } },
    space: {
      'training.learning_rate': { range: { from: 1e-4, to: 3e-3, scale: 'log' } },
      'lora.r': { values: [4, 8] },
    },
    halving: { first_steps: 10 },
    metric: 'accuracy',
    name: 'mine',
  });
});

test('some combinations are drawn, some are left out, and several adapters stay', () => {
  const excluded = 'lora.r=16 & training.learning_rate=1e-3..; lora.r=4,8 & training.learning_rate=..2e-4;';
  const draft = { [RANKS]: '4,8,16', [DRAWN]: '5', [SEED]: '7', [EXCLUDED]: excluded, [KEPT]: ' 2 ' };
  expect(sweepRequestOf(job, draft)).toMatchObject({
    search: 'random',
    variants: 5,
    seed: 7,
    exclude: [
      { 'lora.r': { values: [16] }, 'training.learning_rate': { from: 1e-3 } },
      { 'lora.r': { values: [4, 8] }, 'training.learning_rate': { to: 2e-4 } },
    ],
    publish_best: 2,
  });
});

test.each([{ split: 0.25 }, { split: 0 }, { dataset: 'ds_0123456789abcdef01234567' }])(
  'the held-out rows %j of the form stay',
  (validation) => {
    expect(sweepRequestOf({ ...job, validation }, { [RANKS]: '4,8' })?.job.validation).toEqual(validation);
  },
);

test('what does not fit is sent as it is', () => {
  expect(sweepRequestOf(job, { [RANKS]: 'many, 8', [HALVING]: 'soon' })).toMatchObject({
    space: { 'lora.r': { values: ['many', 8] } },
    halving: { first_steps: 'soon' },
  });
});

test('a field that is added has an input, and is not offered again', () => {
  expect(listedPaths({})).toEqual(['training.learning_rate', 'lora.r']);
  expect(listedPaths({ [ALPHAS]: '' })).toEqual(['training.learning_rate', 'lora.r', 'lora.alpha']);
  const offered = (draft: Record<string, string>) => addableFields(fields, draft).map(({ id }) => id);
  expect(offered({})).toContain('lora.alpha');
  expect(offered({ [ALPHAS]: '' })).not.toContain('lora.alpha');
  for (const id of ['lora.target_modules', 'lora.layers_to_transform']) expect(offered({})).toContain(id);
  for (const id of [
    'lora.r',
    'base_model',
    'validation.split',
    'lora.rank_pattern',
    'lora.init_from',
    'training.max_seq_length',
  ])
    expect(offered({})).not.toContain(id);
});

test.each([
  ['space.lora.r', RANKS],
  ['space.lora.r.values.0', RANKS],
  ['halving.first_steps', HALVING],
  ['metric', METRIC],
  ['variants', DRAWN],
  ['seed', SEED],
  ['exclude.0.lora.r', EXCLUDED],
  ['publish_best', KEPT],
  ['job.lora.r', 'lora.r'],
  ['lora.r', 'lora.r'],
  ['space', undefined],
  [undefined, undefined],
])('a fault of %s is shown at %s', (param, id) => {
  expect(idOfFault(fields, {}, param)).toBe(id);
});
