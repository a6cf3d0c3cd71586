import { expect, test } from 'vitest';

// The specifier is computed because the file is JavaScript without declarations.
const { verdict } = await import(new URL('../checks/gpu-check/findings.mjs', import.meta.url).href);

const PARTS = [
  'card',
  'self-test',
  'types',
  'reference-float32',
  'reference-bfloat16',
  'demo',
  'speed-8B',
  'lost-card',
];
const TITLES: Record<string, string> = { demo: "The demo's job", 'lost-card': 'A lost card', card: 'Driver and card' };

/** Parts that are done, but for those that end otherwise. */
function partsWith(endings: Record<string, string> = {}) {
  const names = [...PARTS, ...Object.keys(endings).filter((name) => !PARTS.includes(name))];
  return names.map((name) => ({ name, title: TITLES[name] ?? name, ending: endings[name] ?? 'done' }));
}

const TRUSTED = { done: true, trusted: true, kernels: 'fused', avoided: [] as string[], wrong: [] as string[] };
const SPEED = { model: '8B', size: '4 × 2048', tokensPerSecond: 13_400, expected: 13_814 };
const GOOD = {
  card: 'NVIDIA H100',
  isEmulated: false,
  report: 'out/report.md',
  selfTest: TRUSTED,
  parts: partsWith(),
  speeds: [SPEED],
  trims: 0,
  neverLaunched: [] as string[],
};

test('a card without findings can be used', () => {
  expect(verdict(GOOD)).toEqual({
    use: 'yes',
    sentence:
      'This card (NVIDIA H100) can be used: no kernel is avoided, 8B trains at 13,400 tokens/s, 3 % below the estimate.',
  });
});

test('a card that computes wrong numbers is not used, and the report says what to do', () => {
  const selfTest = { ...TRUSTED, trusted: false, wrong: ['a product', 'a sum'] };
  expect(verdict({ ...GOOD, selfTest, parts: partsWith({ 'self-test': 'failed' }) })).toEqual({
    use: 'no',
    sentence:
      'Do not use this card (NVIDIA H100) with this driver: its numbers are wrong in a product, a sum; mend what is named, or report it with out/report.md.',
  });
});

test.each([
  ['the engine does not see it', { ...GOOD, card: '', selfTest: null, parts: partsWith({ card: 'failed' }) }, 'no'],
  ['"The demo\'s job" crashed', { ...GOOD, parts: partsWith({ demo: 'crashed' }) }, 'no'],
  ['"reference-bfloat16" failed', { ...GOOD, parts: partsWith({ 'reference-bfloat16': 'failed' }) }, 'no'],
  ['did not end; repeat it', { ...GOOD, selfTest: { ...TRUSTED, done: false, trusted: false } }, 'unknown'],
  [
    'the self-test did not end (took too long); repeat',
    { ...GOOD, selfTest: { ...TRUSTED, done: false, error: 'took too long.' } },
    'unknown',
  ],
  ['run what is missing, too (--only demo)', { ...GOOD, parts: partsWith({ demo: 'not run' }) }, 'unknown'],
  ['plain kernels only', { ...GOOD, selfTest: { ...TRUSTED, kernels: 'raw' } }, 'limited'],
  ['1 kernel is avoided as wrong (lora:bfloat16)', avoiding(['lora:bfloat16']), 'limited'],
  ['5 kernels are avoided as wrong (a, b, c, d and 1 more)', avoiding(['a', 'b', 'c', 'd', 'e']), 'limited'],
  ['"A lost card" did not end in its time', { ...GOOD, parts: partsWith({ 'lost-card': 'out of time' }) }, 'limited'],
  ['slower than estimated by more than a quarter in 8B 4 × 2048', atSpeed(7000, 10_000), 'limited'],
  ['memory is given back 2.5 times a step near the limit', { ...GOOD, trims: 2.5 }, 'limited'],
  ['2 kernels are never launched (One, Two)', { ...GOOD, neverLaunched: ['One', 'Two'] }, 'limited'],
])('the sentence says: %s', (text, findings, use) => {
  const judged = verdict(findings);
  expect(judged.sentence).toContain(text);
  expect(judged.use).toBe(use);
  if (use === 'no' || use === 'limited') expect(judged.sentence).toContain('report it with out/report.md');
});

test('speed within a quarter of the estimate, or without one, is no finding', () => {
  expect(verdict(atSpeed(7600, 10_000))).toMatchObject({ use: 'yes' });
  expect(verdict(atSpeed(10_500, 10_000)).sentence).toContain('5 % above the estimate');
  expect(verdict({ ...GOOD, speeds: [{ ...SPEED, expected: null }] }).sentence).toMatch(/13,400 tokens\/s\.$/);
});

test('parts that were left out are named, and what others compute is no finding', () => {
  const parts = partsWith({
    'lost-card': 'not run',
    'speed-8B': 'cut short',
    'peer-8B': 'failed',
    'demo-cpu': 'out of time',
  });
  const { use, sentence } = verdict({ ...GOOD, parts });
  expect(use).toBe('yes');
  expect(sentence).toContain('2 parts are left out (speed-8B, lost-card)');
});

test('the speed of an emulated card is not judged', () => {
  const { use, sentence } = verdict({ ...atSpeed(1, 1000), isEmulated: true });
  expect(use).toBe('yes');
  expect(sentence).toBe('The emulated card can be used: no kernel is avoided, its times say nothing.');
});

function avoiding(avoided: string[]) {
  return { ...GOOD, selfTest: { ...TRUSTED, avoided } };
}

function atSpeed(tokensPerSecond: number, expected: number) {
  return { ...GOOD, speeds: [{ ...SPEED, tokensPerSecond, expected }] };
}
