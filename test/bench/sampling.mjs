// Milliseconds that one step of generation takes to choose tokens, on the engine of this process: see README.md.
import { parseArgs } from 'node:util';
import { chooseKernels, dispose, tensorOf } from '../../packages/tensor/dist/index.js';

const { values } = parseArgs({
  options: {
    texts: { type: 'string', default: '16' },
    vocabulary: { type: 'string', default: '128256' },
    repeats: { type: 'string', default: '15' },
  },
});
const [texts, vocabulary, repeats] = [Number(values.texts), Number(values.vocabulary), Number(values.repeats)];

/** Normal numbers with a standard deviation of 3, which some tokens of exceed by far, as in a model. (mulberry32, Box and Muller) */
function normalLogits() {
  let state = 1;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: texts * vocabulary }, () => {
    return 3 * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  });
}

/** @type {[string, Partial<import('../../packages/tensor/dist/index.js').TokenChoice>][]} */
const CASES = [
  ['the most probable', { temperature: 0 }],
  ['temperature 1', {}],
  ['temperature 1, log-probabilities', { logprobs: 0 }],
  ['temperature 1, top_p 0.9', { topP: 0.9 }],
  ['temperature 1, top_k 50', { topK: 50 }],
];
const PLAIN = {
  ...{ given: null, temperature: 1, topK: 0, topP: 1, minP: 0, draw: 0.5 },
  ...{ penalties: null, allowed: null, logprobs: null },
};

const kernels = chooseKernels('fused');
const logits = tensorOf(normalLogits(), [texts, vocabulary]);
console.log(`${kernels.library}, ${texts} texts, ${vocabulary} tokens, best of ${repeats}`);
for (const [name, own] of CASES) {
  const choices = Array.from({ length: texts }, (_, text) => ({ ...PLAIN, ...own, draw: (text + 0.5) / texts }));
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    kernels.of('float32').sampleTokens(logits, choices);
    best = Math.min(best, performance.now() - start);
  }
  console.log(`${name}: ${best.toFixed(2)} ms, ${(best / texts).toFixed(3)} ms a text`);
}
dispose(logits);
