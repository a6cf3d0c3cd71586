import { describe, expect, test } from 'vitest';
import { fieldHint, fileHint, JobRequest, LoraSettings, pathHint, rowHint, TrainingSettings } from './index.js';

describe('fieldHint', () => {
  test.each([
    ['rank', 'In a job it is lora.r.'],
    ['lora_alpha', 'In a job it is lora.alpha.'],
    ['lora_dropout', 'In a job it is lora.dropout.'],
    ['lr', 'In a job it is training.learning_rate.'],
    ['num_train_epochs', 'In a job it is training.epochs.'],
    ['n_epochs', 'In a job it is training.epochs.'],
    ['per_device_train_batch_size', 'In a job it is training.batch_size.'],
    ['lr_scheduler_type', 'In a job it is training.lr_scheduler.'],
    ['max_length', 'In a job it is training.max_seq_length.'],
    ['model', 'In a job it is base_model.'],
    ['training_file', 'In a job it is dataset.'],
    ['validation_file', 'In a job it is validation.dataset.'],
    ['dataset', 'In a job it is dataset.'],
    ['suffix', 'In a job it is name.'],
    // A field that exists here, but at another location.
    ['gradient_accumulation_steps', 'In a job it is training.gradient_accumulation_steps.'],
    ['target_modules', 'In a job it is lora.target_modules.'],
    ['split', 'In a job it is validation.split.'],
    ['metadata', 'In a job it is metadata.'],
  ])('returns the field for %s', (name, hint) => {
    expect(fieldHint(name, '')).toBe(hint);
  });

  test.each([
    ['use_dora', 'DoRA is not supported'],
    ['modules_to_save', 'Only the A and B'],
    ['task_type', 'The base model determines'],
    ['init_lora_weights', 'always starts'],
    ['load_in_4bit', 'training.base_quantization: "nf4"'],
    ['load_in_8bit', 'training.base_quantization: "nf4"'],
    ['fp16', 'training.precision'],
    ['bf16', 'training.precision'],
    ['bias', 'never trained'],
    ['warmup_steps', 'training.warmup_ratio'],
    ['learning_rate_multiplier', 'training.learning_rate'],
    ['hyperparameters', 'into training and lora'],
    ['val_set_size', 'validation.split'],
  ])('says what to do instead of %s', (name, part) => {
    expect(fieldHint(name, '')).toContain(part);
  });

  test('names only existing fields', () => {
    const known = { '': JobRequest, lora: LoraSettings, training: TrainingSettings };
    const names = ['rank', 'rslora', 'loraplus_lr_ratio', 'random_state', 'torch_dtype', 'eval_steps', 'save_steps'];
    for (const name of names) {
      const [field = '', group = ''] = fieldHint(name, '')!.slice('In a job it is '.length, -1).split('.').reverse();
      expect(known[group as keyof typeof known].properties).toHaveProperty(field);
    }
  });

  test.each(['callback_url', 'constructor', '__proto__', 'toString', ''])('returns undefined for %j', (name) => {
    expect(fieldHint(name, '')).toBeUndefined();
  });
});

test.each([
  ['/v1/uploads', 'POST /v1/files'],
  ['/files/file-1/content', '/v1/files'],
  ['/v1/fine_tuning/checkpoints/x/permissions', 'not supported'],
  ['/files', '/v1/files'],
  ['/fine_tuning/jobs', '/v1/fine_tuning/jobs'],
  ['/fine_tuning/jobs/ftjob-1/events', '/v1/fine_tuning/jobs'],
  ['/chat/completions', 'POST /v1/chat/completions'],
  ['/v1/responses', 'POST /v1/chat/completions'],
  ['/v1/jobs', 'start with /v1'],
])('pathHint(%j) points to %s', (path, part) => {
  expect(pathHint(path)).toContain(part);
});

test.each(['/', '/v1', '/filesystem', '/v2/files', '/x/v1/files'])('pathHint(%j) is undefined', (path) => {
  expect(pathHint(path)).toBeUndefined();
});

test.each([
  [{ conversation: [{ role: 'user', content: 'a' }] }, 'messages'],
  [{ question: 'a', answer: 'b' }, '"prompt"'],
  [{ input_ids: [1] }, 'tokenizer'],
  [[{ text: 'a' }], 'The row is a list'],
])('rowHint of %j', (row, part) => {
  expect(rowHint(row)).toContain(part);
});

test.each([{ txt: 'a' }, {}, null, 'text', 7])('rowHint(%j) is undefined', (row) => {
  expect(rowHint(row)).toBeUndefined();
});

test.each([
  ['{', 'JSON array'],
  ['{\r', 'jq -c .'],
])('fileHint of %j', (line, part) => {
  expect(fileHint(line)).toContain(part);
});

test.each(['{}', '[', '{"text":"a"}', 'text', '"["'])('fileHint(%j) is undefined', (line) => {
  expect(fileHint(line)).toBeUndefined();
});
