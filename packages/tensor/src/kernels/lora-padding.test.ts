import { expect, test } from 'vitest';
import { loraPaddingOf } from './adapted-product.js';

test('an adapter is a part of both products where nothing else is set', () => {
  expect([undefined, '', 'both'].map(loraPaddingOf)).toEqual(['both', 'both', 'both']);
  expect(loraPaddingOf('depth')).toBe('depth');
});

test.each(['Depth', 'width', '0'])('%s is refused with the values that there are', (value) => {
  expect(() => loraPaddingOf(value)).toThrow(`GPU_LORA_PADDING is "${value}"; it can be "both" or "depth"`);
});
