// Generates one text and sixteen at once, by the most probable token and by draws, and writes tokens per second to RESULT_FILE.
// node generation-main.mjs --model FOLDER --prompt 128 --new 128 [--precision bfloat16] [--kernels fused|raw] [--avoid NAMES]
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readModelFolder } from '../../../packages/model-folder/dist/index.js';
import { Generation, loadDecoder } from '../../../packages/models/dist/index.js';
import { chooseKernels, engine } from '../../../packages/training/dist/index.js';
import { table } from '../../bench/tables.mjs';
import { KERNEL_OPTIONS, kernelsOf } from './kernel-choice.mjs';
import { writePartResult } from './run-part.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    prompt: { type: 'string', default: '128' },
    new: { type: 'string', default: '128' },
    precision: { type: 'string', default: 'bfloat16' },
    ...KERNEL_OPTIONS,
  },
});
const MOST_TEXTS = 16;
const CASES = [1, MOST_TEXTS].flatMap((texts) => [
  { texts, name: 'the most probable token', sampling: undefined },
  { texts, name: 'drawn, temperature 1', sampling: { temperature: 1, topP: 1, seed: 1 } },
  { texts, name: 'drawn, top_p 0.9', sampling: { temperature: 1, topP: 0.9, seed: 1 } },
]);
/** Tokens of a text before the measured ones: they choose products. */
const WARM_UP_TOKENS = 2;

const [promptTokens, newTokens] = [Number(values.prompt), Number(values.new)];
const decoder = await loadDecoder(
  await readModelFolder(path.resolve(values.model)),
  /** @type {'float32' | 'bfloat16'} */ (values.precision),
  /** @type {any} */ (chooseKernels(...kernelsOf(values))),
);
const ids = Math.min(decoder.architecture.vocabSize, 40_000) - 3;
const cacheTokens = MOST_TEXTS * 2 * (promptTokens + newTokens + 64);
const generation = new Generation(decoder, { cacheTokens, maxTexts: MOST_TEXTS });
/** @type {{ texts: number, name: string, prompt_tokens_per_second: number, tokens_per_second: number, waits_per_token: number }[]} */
const cases = [];
for (const one of CASES) {
  generate(one, WARM_UP_TOKENS);
  cases.push({ texts: one.texts, name: one.name, ...generate(one, newTokens) });
  writePartResult({ lines: linesOf(), cases });
}
generation.dispose();
decoder.dispose();

/**
 * @param {{ texts: number, sampling: import('../../../packages/models/dist/index.js').Sampling | undefined }} one
 * @param {number} maxNewTokens of each text, whatever they are
 */
function generate({ texts, sampling }, maxNewTokens) {
  const tokens = new Array(texts).fill(0);
  for (let text = 0; text < texts; text++) {
    const promptIds = Int32Array.from({ length: promptTokens }, (_, i) => 3 + ((i * 7919 + text * 104_729) % ids));
    generation.add({ promptIds, adapter: null, maxNewTokens: maxNewTokens + 1, sampling, stopIds: [] }, (event) => {
      if (event.kind === 'failed') throw event.error;
      if (event.kind === 'token') tokens[text]++;
    });
  }
  const start = performance.now();
  let promptEnd = start;
  let atPromptEnd = 0;
  let waits = 0;
  while (generation.hasWork) {
    generation.step();
    if (atPromptEnd > 0 || Math.min(...tokens) === 0) continue;
    promptEnd = performance.now();
    atPromptEnd = sum(tokens);
    waits = engine.cuda?.statistics().waits ?? 0;
  }
  const seconds = (performance.now() - promptEnd) / 1e3;
  const generated = sum(tokens) - atPromptEnd;
  return {
    prompt_tokens_per_second: (texts * promptTokens) / ((promptEnd - start) / 1e3),
    tokens_per_second: generated / seconds,
    waits_per_token: ((engine.cuda?.statistics().waits ?? 0) - waits) / (generated / texts),
  };
}

function linesOf() {
  const head = ['texts', 'token', 'tokens/s of all', 'ms a token of each', 'waits a token', "prompts' tokens/s"];
  const rows = cases.map(({ texts, name, ...rates }) => [
    texts,
    name,
    rates.tokens_per_second.toFixed(0),
    ((1e3 * texts) / rates.tokens_per_second).toFixed(2),
    rates.waits_per_token.toFixed(1),
    rates.prompt_tokens_per_second.toFixed(0),
  ]);
  return [`Prompts of ${promptTokens} tokens, ${newTokens} new ones.`, '', table(head, rows).trimEnd()];
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((all, number) => all + number, 0);
}
