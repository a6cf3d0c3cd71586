import type { JobStatus, Sweep } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { sweepExclusionOf, sweepProgressText } from '../sweep-text.js';
import { spaceOf } from './sweep-commands.js';

test('values are a list, or a range with its scale and how many', () => {
  expect(
    spaceOf([
      'lora.r=4,8,16',
      'training.learning_rate=1e-4..3e-3:log',
      'lora.alpha=8..32:3',
      'training.weight_decay=0..0.1:linear:5',
      'lora.use_rslora=true, false',
      'training.lr_scheduler=cosine',
      'training.max_grad_norm=1,null',
      'lora.target_modules="all-linear", ["q_proj", "v_proj"]',
      'training.optimizer=[adamw',
    ]),
  ).toEqual({
    'lora.r': { values: [4, 8, 16] },
    'training.learning_rate': { range: { from: 1e-4, to: 3e-3, scale: 'log' } },
    'lora.alpha': { range: { from: 8, to: 32, count: 3 } },
    'training.weight_decay': { range: { from: 0, to: 0.1, scale: 'linear', count: 5 } },
    'lora.use_rslora': { values: [true, false] },
    'training.lr_scheduler': { values: ['cosine'] },
    'training.max_grad_norm': { values: [1, null] },
    'lora.target_modules': { values: ['all-linear', ['q_proj', 'v_proj']] },
    'training.optimizer': { values: ['[adamw'] },
  });
});

test('what is no range stays text, which the server refuses', () => {
  expect(spaceOf(['lora.r=a..b'])).toEqual({ 'lora.r': { values: ['a..b'] } });
});

test.each([
  [['lora.r'], 'needs a field and its values'],
  [['=4'], 'needs a field and its values'],
  [['lora.r='], 'needs a field and its values'],
  [['lora.r=4', 'lora.r=8'], 'the field is there twice'],
])('%j is refused', (texts, message) => {
  expect(() => spaceOf(texts)).toThrow(message);
});

test('combinations to leave out are values and ranges with one end or both', () => {
  expect(sweepExclusionOf('lora.r=8,16 & training.learning_rate=1e-3.. &training.epochs=1..2& lora.alpha=..4')).toEqual(
    {
      'lora.r': { values: [8, 16] },
      'training.learning_rate': { from: 1e-3 },
      'training.epochs': { from: 1, to: 2 },
      'lora.alpha': { to: 4 },
    },
  );
});

test.each([
  ['', { '': { values: [''] } }],
  ['lora.r', { 'lora.r': { values: [''] } }],
  ['lora.r=..', { 'lora.r': { values: ['..'] } }],
  ['lora.r=a..4', { 'lora.r': { values: ['a..4'] } }],
])('an exclusion %j that is none is sent for the server to refuse', (text, sent) => {
  expect(sweepExclusionOf(text)).toEqual(sent);
});

test('progress counts jobs by what they do, and says after which steps those are that train', () => {
  const variant = (status: JobStatus, step: number | null) => ({
    status,
    progress:
      step === null ? null : { step, total_steps: 1_200, epoch: 1, loss: 1, tokens_per_second: 1, seconds_left: 1 },
  });
  const textOf = (...variants: ReturnType<typeof variant>[]) =>
    sweepProgressText({ variants: variants as unknown as Sweep['variants'] });
  expect(textOf(variant('queued', null), variant('preparing', null))).toBe('0 of 2 have ended, 1 training, 1 waiting');
  expect(textOf(variant('succeeded', 1_200), variant('running', 1_000), variant('running', 96))).toBe(
    '1 of 3 have ended, 2 training (after steps 96 to 1,000 of 1,200)',
  );
  expect(textOf(variant('running', 7), variant('running', null))).toBe(
    '0 of 2 have ended, 2 training (after step 7 of 1,200)',
  );
});
