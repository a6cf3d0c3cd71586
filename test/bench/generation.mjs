// Tokens per second of generation, and of transformers' `generate` on the same machine; with --sampling, milliseconds that one step takes to
// choose tokens, on the engine of this process: see README.md.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readModelFolder } from '../../packages/model-folder/dist/index.js';
import { Generation, loadDecoder } from '../../packages/models/dist/index.js';
import { chooseKernels, dispose, observeOps, tensorOf } from '../../packages/tensor/dist/index.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: fileURLToPath(new URL('../../models/SmolLM2-135M-Instruct', import.meta.url)) },
    dtype: { type: 'string', default: 'bfloat16' },
    'peer-python': { type: 'string' },
    repeats: { type: 'string' },
    profile: { type: 'boolean', default: false },
    sampling: { type: 'boolean', default: false },
    texts: { type: 'string', default: '16' },
    vocabulary: { type: 'string', default: '128256' },
  },
});
const dtype = /** @type {'float32' | 'bfloat16'} */ (values.dtype);

/** Prompts of one length, of ids that are spread over the vocabulary. */
const promptsOf = (/** @type {number} */ count, /** @type {number} */ length) =>
  Array.from({ length: count }, (_, row) =>
    Array.from({ length }, (_, i) => 100 + ((i * 7919 + row * 104_729) % 40_000)),
  );

const CASES = [
  { requests: 1, promptTokens: 128, newTokens: 32 },
  { requests: 8, promptTokens: 128, newTokens: 32 },
  { requests: 1, promptTokens: 512, newTokens: 16 },
];
const cases = CASES.map((one) => ({ ...one, prompts: promptsOf(one.requests, one.promptTokens) }));

const median = (/** @type {number[]} */ numbers) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

/** @param {Generation} generation @param {{ prompts: number[][], newTokens: number }} one */
function measure(generation, { prompts, newTokens }) {
  let first = 0;
  let longestStep = 0;
  for (const prompt of prompts) {
    const request = { promptIds: Int32Array.from(prompt), adapter: null, maxNewTokens: newTokens + 1, stopIds: [] };
    let isFirst = true;
    generation.add(request, ({ kind }) => {
      if (kind === 'token' && isFirst) {
        isFirst = false;
        first++;
      }
    });
  }
  const start = performance.now();
  let promptEnd = start;
  while (generation.hasWork) {
    const stepStart = performance.now();
    generation.step();
    const now = performance.now();
    longestStep = Math.max(longestStep, now - stepStart);
    if (first < prompts.length) promptEnd = now;
    else if (first === prompts.length) {
      promptEnd = now;
      first++;
    }
  }
  return {
    promptSeconds: (promptEnd - start) / 1e3,
    decodeSeconds: (performance.now() - promptEnd) / 1e3,
    longestStep,
  };
}

/** @param {{ promptSeconds: number, decodeSeconds: number, longestStep?: number }[]} results */
const medians = (results) => ({
  promptSeconds: median(results.map(({ promptSeconds }) => promptSeconds)),
  decodeSeconds: median(results.map(({ decodeSeconds }) => decodeSeconds)),
  longestStep: Math.max(...results.map(({ longestStep = 0 }) => longestStep)),
});

/** Starts transformers. @returns measures one case */
function startPeer(/** @type {string} */ python) {
  const script = fileURLToPath(new URL('generation_baseline.py', import.meta.url));
  const child = spawn(python, [script, values.model, dtype], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    measure: async (/** @type {{ prompts: number[][], newTokens: number }} */ { prompts, newTokens }) => {
      child.stdin.write(`${JSON.stringify({ prompts, newTokens })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${python} ended`);
      return JSON.parse(value);
    },
    end: () => child.stdin.end(),
  };
}

/** Prints the tokens per second of prompts and of new tokens. */
async function measureGeneration() {
  const repeats = Number(values.repeats ?? '3');
  const kernels = chooseKernels('fused');
  // The type check sees the sources of one package and the build of the other.
  const decoder = await loadDecoder(await readModelFolder(values.model), dtype, /** @type {any} */ (kernels));
  const generation = new Generation(decoder, { cacheTokens: 8 * 256, maxTexts: 8 });
  const peer = values['peer-python'] === undefined ? null : startPeer(values['peer-python']);
  const measured = [];
  for (const one of cases) {
    const few = { ...one, newTokens: 4 };
    measure(generation, few);
    await peer?.measure(few);
    const own = [];
    const peers = [];
    // By turns, so that other work on the machine slows both.
    for (let i = 0; i < repeats; i++) {
      own.push(measure(generation, one));
      if (peer !== null) peers.push(await peer.measure(one));
    }
    measured.push({ one, own: medians(own), peer: peer === null ? null : medians(peers) });
  }
  peer?.end();
  if (values.profile) {
    for (const one of cases) {
      /** @type {Map<string, { count: number, seconds: number }>} */
      const ops = new Map();
      observeOps(({ name, seconds }) => {
        const sum = ops.get(name) ?? { count: 0, seconds: 0 };
        ops.set(name, { count: sum.count + 1, seconds: sum.seconds + seconds });
      });
      const { promptSeconds, decodeSeconds } = measure(generation, one);
      observeOps(null);
      console.log(`${one.requests} × ${one.promptTokens}: ${promptSeconds.toFixed(3)} + ${decodeSeconds.toFixed(3)} s`);
      const sorted = [...ops].sort(([, a], [, b]) => b.seconds - a.seconds).slice(0, 16);
      for (const [name, { count, seconds }] of sorted) console.log(`  ${name} ${count} ${seconds.toFixed(3)} s`);
    }
  }

  console.log(`${dtype}, kernels ${kernels.library}, tokens/s of all requests together`);
  console.log('| requests | prompt | new tokens | prompt tokens/s | peer | new tokens/s | peer | longest step |');
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
  for (const { one, own, peer: theirs } of measured) {
    const { requests, promptTokens, newTokens } = one;
    const rates = (/** @type {{ promptSeconds: number, decodeSeconds: number }} */ { promptSeconds, decodeSeconds }) =>
      [(requests * promptTokens) / promptSeconds, (requests * newTokens) / decodeSeconds].map((rate) =>
        rate.toFixed(0),
      );
    const [prompt, decode] = rates(own);
    const [peerPrompt = '', peerDecode = ''] = theirs === null ? [] : rates(theirs);
    const step = `${own.longestStep.toFixed(0)} ms`;
    console.log(`| ${[requests, promptTokens, newTokens, prompt, peerPrompt, decode, peerDecode, step].join(' | ')} |`);
  }
}

/** Normal numbers with a standard deviation of 3, which some tokens of exceed by far, as in a model. (mulberry32, Box and Muller) @param {number} count */
function normalLogits(count) {
  let state = 1;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () => {
    return 3 * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  });
}

/** @type {[string, Partial<import('../../packages/tensor/dist/index.js').TokenChoice>][]} */
const CHOICES = [
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

/** Prints the milliseconds of the choice of tokens. */
function measureSampling() {
  const [texts, vocabulary, repeats] = [
    Number(values.texts),
    Number(values.vocabulary),
    Number(values.repeats ?? '15'),
  ];
  const kernels = chooseKernels('fused');
  const logits = tensorOf(normalLogits(texts * vocabulary), [texts, vocabulary]);
  console.log(`${kernels.library}, ${texts} texts, ${vocabulary} tokens, best of ${repeats}`);
  for (const [name, own] of CHOICES) {
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
}

if (values.sampling) measureSampling();
else await measureGeneration();
