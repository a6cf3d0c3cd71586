import { expect, test } from 'vitest';
import { spaceOf } from './over-flag.js';

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
    ]),
  ).toEqual({
    'lora.r': { values: [4, 8, 16] },
    'training.learning_rate': { range: { from: 1e-4, to: 3e-3, scale: 'log' } },
    'lora.alpha': { range: { from: 8, to: 32, count: 3 } },
    'training.weight_decay': { range: { from: 0, to: 0.1, scale: 'linear', count: 5 } },
    'lora.use_rslora': { values: [true, false] },
    'training.lr_scheduler': { values: ['cosine'] },
    'training.max_grad_norm': { values: [1, null] },
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
