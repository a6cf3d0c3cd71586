import type { JobRequest } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import {
  addableFields,
  curlCommand,
  DRAWN,
  draftOf,
  EXCLUDED,
  FIRST_DRAFT,
  HALVING,
  idOfFault,
  KEPT,
  listedPaths,
  METRIC,
  RECIPE_DRAFTS,
  recipeOf,
  requestOf,
  SEED,
  sweepRequestOf,
  valuesId,
  withoutTwoValidations,
} from './draft.js';
import { jobFields } from './job-fields.js';

const fields = jobFields();
const MODEL = { base_model: 'tiny', dataset: 'ds_0123456789abcdef01234567' };

test('a draft becomes a request; empty fields are left out', () => {
  const request = requestOf(fields, {
    ...MODEL,
    name: ' ',
    'lora.r': '16',
    'lora.target_modules': 'q_proj, k_proj',
    'lora.layers_to_transform': '0, 2',
    'lora.rank_pattern': '{"q_proj": 4}',
    'lora.use_rslora': 'true',
    'training.learning_rate': '5e-4',
    'training.max_grad_norm': 'null',
    'training.early_stopping.patience': '3',
    'samples.prompts': 'Say 3.\n\n[{"role":"user","content":"Say\\n4."}]',
    metadata: '{"team":"a"}',
    tags: ' dates, 2026,, dates',
    note: 'With the\ncorrected rows. ',
  });
  const expected: JobRequest = {
    ...MODEL,
    lora: {
      r: 16,
      target_modules: ['q_proj', 'k_proj'],
      layers_to_transform: [0, 2],
      rank_pattern: { q_proj: 4 },
      use_rslora: true,
    },
    training: { learning_rate: 5e-4, max_grad_norm: null, early_stopping: { patience: 3 } },
    samples: { prompts: ['Say 3.', [{ role: 'user', content: 'Say\n4.' }]] },
    metadata: { team: 'a' },
    tags: ['dates', '2026'],
    note: 'With the\ncorrected rows.',
  };
  expect(request).toEqual(expected);
  expect(requestOf(fields, draftOf(fields, request))).toEqual(request);
});

test.each([
  ['all-linear', 'all-linear'],
  ['q_proj', ['q_proj']],
  ['["a","b"]', ['a', 'b']],
  ['.*layers\\.[01]\\..*(q|v)_proj', '.*layers\\.[01]\\..*(q|v)_proj'],
])('the target modules %s', (text, value) => {
  expect(requestOf(fields, { 'lora.target_modules': text })).toEqual({ lora: { target_modules: value } });
});

test('what does not fit is sent as it is, so that the service says what is wrong', () => {
  expect(requestOf(fields, { 'lora.r': 'many', metadata: '{' })).toEqual({ lora: { r: 'many' }, metadata: '{' });
});

test('a draft of a job has only what differs from the defaults', () => {
  const job = {
    ...MODEL,
    priority: 'normal',
    name: 'dates',
    lora: { r: 8, target_modules: 'all-linear', rank_pattern: {}, init_from: null },
    training: { epochs: 3, learning_rate: 1e-3, early_stopping: null, checkpoint_every_steps: null },
    samples: null,
    metadata: {},
    tags: [],
  };
  expect(draftOf(fields, job)).toEqual({
    ...MODEL,
    name: 'dates',
    'training.learning_rate': '0.001',
    'training.checkpoint_every_steps': 'null',
  });
});

test('an empty list in a draft of a job is not its default', () => {
  const draft = draftOf(fields, {
    ...MODEL,
    lora: { target_modules: [], target_parameters: ['mlp.experts.down_proj'] },
  });
  expect(draft).toEqual({ ...MODEL, 'lora.target_modules': '[]', 'lora.target_parameters': 'mlp.experts.down_proj' });
  expect(requestOf(fields, draft).lora).toEqual({ target_modules: [], target_parameters: ['mlp.experts.down_proj'] });
});

test('the command for curl quotes what others wrote, and has no key', () => {
  const request = { ...MODEL, name: `it's "$(reboot)"` };
  expect(curlCommand('http://127.0.0.1:8080/jobs', request, true)).toBe(
    [
      `curl 'http://127.0.0.1:8080/jobs' \\`,
      `  -H "authorization: Bearer $LORASMITH_API_KEY" \\`,
      `  -H 'content-type: application/json' \\`,
      `  -d '{"base_model":"tiny","dataset":"ds_0123456789abcdef01234567","name":"it'\\''s \\"$(reboot)\\""}'`,
    ].join('\n'),
  );
  expect(curlCommand('http://127.0.0.1:8080/jobs', request, false)).not.toContain('authorization');
});

test('a recipe names fields of the form, and all name the same ones, so that each replaces the others', () => {
  const known = new Set(jobFields().map(({ id }) => id));
  const [first, ...others] = RECIPE_DRAFTS.map(({ fields }) => Object.keys(fields).sort());
  for (const id of first!) expect(known).toContain(id);
  for (const other of others) expect(other).toEqual(first);
});

test('the first draft is the standard recipe, which holds out rows, and a changed one is none', () => {
  expect(recipeOf({ dataset: 'ds_1', ...FIRST_DRAFT })?.name).toBe('standard');
  expect(FIRST_DRAFT).toEqual({ 'validation.split': '0.05' });
  for (const recipe of RECIPE_DRAFTS) expect(recipeOf({ name: 'x', ...recipe.fields })).toBe(recipe);
  expect(recipeOf({})).toBeUndefined();
  expect(recipeOf({ ...FIRST_DRAFT, 'lora.r': '5' })).toBeUndefined();
});

test('a dataset to evaluate on takes the place of the held-out share of a recipe, and of no other', () => {
  const other = { 'validation.dataset': 'ds_2' };
  const draft = withoutTwoValidations({ ...FIRST_DRAFT, ...other });
  expect(draft).toEqual({ 'validation.split': '', ...other });
  expect(recipeOf(draft)?.name).toBe('standard');
  expect(withoutTwoValidations({ 'validation.split': '0.2', ...other })).toMatchObject({ 'validation.split': '0.2' });
});

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
