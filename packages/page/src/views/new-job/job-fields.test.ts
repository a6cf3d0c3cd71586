import { DatasetId, JobRequest } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { FIELD_LABELS, fieldOfFault, type JobField, jobFields } from './job-fields.js';

const fields = jobFields();
const field = (id: string) => fields.find((one) => one.id === id)!;

test('every field of a job request is there, with its help, default and input', () => {
  for (const name of Object.keys(JobRequest.properties)) {
    expect(fields.map(({ path }) => path[0])).toContain(name);
  }
  expect(field('base_model')).toMatchObject({ input: 'base-model', isRequired: true, label: 'Base model' });
  expect(field('dataset')).toMatchObject({ input: 'dataset', isRequired: true, description: undefined });
  expect(field('priority')).toMatchObject({ input: 'choice', choices: ['low', 'normal', 'high'], preset: 'normal' });
  expect(field('name')).toMatchObject({ input: 'text', isNullable: true, preset: null, isRequired: false });
  expect(field('lora.r')).toMatchObject({ input: 'number', preset: 8, description: 'Rank of A and B.' });
  expect(field('lora.target_modules')).toMatchObject({
    input: 'list',
    acceptsText: true,
    preset: 'all-linear',
  });
  expect(field('lora.layers_to_transform')).toMatchObject({ input: 'list', acceptsText: false, isNullable: true });
  expect(field('lora.rank_pattern')).toMatchObject({ input: 'json', preset: {} });
  expect(field('lora.use_rslora')).toMatchObject({
    input: 'flag',
    preset: false,
    label: 'Scale by the root of the rank (rsLoRA)',
  });
  expect(field('lora.init_from')).toMatchObject({ input: 'adapter', preset: null });
  expect(field('training.max_grad_norm')).toMatchObject({ input: 'number', preset: 1, isNullable: true });
  expect(field('training.early_stopping.patience')).toMatchObject({
    input: 'number',
    label: 'Stop early after evaluations without progress',
  });
  expect(field('samples.prompts')).toMatchObject({ input: 'lines' });
  expect(field('metadata')).toMatchObject({ input: 'json' });
  expect(field('tags')).toMatchObject({ input: 'tags', preset: [], isRequired: false });
  expect(field('note')).toMatchObject({ input: 'note', preset: null });
});

test('a field that the schema gets later is in the form by itself', () => {
  const properties = {
    validation: { type: 'object', properties: { rows: { ...DatasetId, description: 'Other rows.' } } },
    shape: { enum: ['round', 'square'], default: 'round' },
    limits: { anyOf: [{ type: 'object', properties: { most: { type: 'integer' } } }, { type: 'null' }], default: null },
  };
  expect(jobFields({ properties, required: ['shape'] })).toMatchObject([
    {
      id: 'validation.rows',
      input: 'dataset',
      label: 'Validation: rows',
      description: 'Other rows.',
      isRequired: false,
    },
    { id: 'shape', input: 'choice', choices: ['round', 'square'], preset: 'round', isRequired: true },
    { id: 'limits.most', input: 'number', label: 'Limits: most', preset: undefined },
  ] satisfies Partial<JobField>[]);
});

test.each([
  ['lora.r', 'lora.r'],
  ['lora.target_modules.0', 'lora.target_modules'],
  ['samples.prompts.0.1.content', 'samples.prompts'],
  ['training.early_stopping', 'training.early_stopping.patience'],
  ['lora.rank', undefined],
  [undefined, undefined],
])('a fault of %s is shown at %s', (param, id) => {
  expect(fieldOfFault(fields, param)?.id).toBe(id);
});

test('every field has a name for people, which no other field has', () => {
  expect(Object.keys(FIELD_LABELS).sort()).toEqual(fields.map(({ id }) => id).sort());
  expect(new Set(Object.values(FIELD_LABELS)).size).toBe(fields.length);
});
