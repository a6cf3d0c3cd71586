import { expect, test } from 'vitest';
import { loraMarginOf } from './adapted-product.js';

test('an adapter is a part of both products where nothing else is set', () => {
  expect([undefined, '', 'both'].map(loraMarginOf)).toEqual(['both', 'both', 'both']);
  expect(loraMarginOf('depth')).toBe('depth');
});

test.each(['Depth', 'width', '0'])('%s is refused with the values that there are', (value) => {
  expect(() => loraMarginOf(value)).toThrow(`GPU_LORA_MARGIN is "${value}"; it can be "both" or "depth"`);
});
