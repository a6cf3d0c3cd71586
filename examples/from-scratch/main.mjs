// npm run example: LoRA from the first multiplication to a trained model. With --json it prints only the numbers.
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { linearLayer, loraLayer, savings } from './layers.mjs';
import { trainedStack } from './trained-stack.mjs';

const say = (/** @type {string} */ text) => process.stdout.write(`${text}\n`);
const asJson = process.argv.includes('--json');

await runAsCommand(async () => {
  const signal = interruption();
  try {
    await (asJson ? printNumbers(signal) : show(signal));
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    return 130;
  }
});

/** @param {AbortSignal} signal */
async function printNumbers(signal) {
  const numbers = { linear: linearLayer(), lora: await loraLayer(), savings: savings() };
  say(JSON.stringify({ ...numbers, stack: await trainedStack({ signal }) }));
}

/** @param {AbortSignal} signal */
async function show(signal) {
  const linear = linearLayer();
  say(`A linear layer: y = x Wᵀ + b, with W [2, 3]
  x Wᵀ      ${list(linear.product)}
  y         ${list(linear.y)}
  trainable ${linear.numbers} numbers
  4096 × 4096 has ${count(linear.large.weights)} weights, ${count(linear.large.withBias)} numbers with its bias
`);
  const lora = await loraLayer();
  say(`With LoRA: y = x Wᵀ + (alpha / r) · (x Aᵀ) Bᵀ, with W [4, 3], A [2, 3], B [4, 2], r = 2, alpha = 4
  BA        ${lora.ba.map(list).join(' ')}
  Ax        ${list(lora.ax)}
  B(Ax)     ${list(lora.bax)}
  scaled    ${list(lora.scaled)}  (by ${lora.scale})
  Wx        ${list(lora.wx)}
  y         ${list(lora.y)}
  merged    ${lora.merged.map(list).join(' ')}
  its y     ${list(lora.mergedY)}
`);
  const saved = savings();
  say(`Savings of r = 8 on 4096 × 4096
  trained   ${count(saved.trained)} numbers instead of ${count(saved.frozen)}: ${saved.fewerPercent.toFixed(2)} % fewer
`);
  say('A stack 128 → 256 → ReLU → 10, both layers with r = 8, trained through the HTTP API');
  const stack = await trainedStack({ signal, say: (text) => say(`  ${text}`) });
  const { initial, test } = stack;
  const share = (/** @type {number} */ right) => `${right} of ${test.rows} right`;
  say(`  trained   ${count(stack.trained)} of ${count(stack.total)} numbers; the frozen ones are ${stack.baseIsUnchanged ? 'the same bytes as before' : 'CHANGED'}
  at first  A within ±${initial.largestA.toFixed(2)}/√in, B ${initial.largestB}: the model with it differs from the base by ${initial.difference}
  training  ${stack.steps} steps in ${stack.seconds.toFixed(1)} s; loss ${stack.loss.first.toFixed(3)} → ${stack.loss.last.toFixed(3)}
  before    ${share(test.before)}, on rows that it was not trained on
  after     ${share(test.unmerged)} with the adapter beside the base, ${share(test.merged)} merged
  merged    ${stack.sameAnswers ? 'the same answers' : 'OTHER ANSWERS'}; scores up to ${stack.largestLogit.toFixed(1)} differ by ${stack.mergedDifference.toExponential(1)} at most
  cost      ${stack.sameTensors ? 'the merged model has the tensors of the base, and takes the same time' : 'OTHER TENSORS'}

docs/lora.md explains it.`);
}

/** @param {number[]} [numbers] */
const list = (numbers = []) => `[${numbers.map((value) => Number(value.toPrecision(6))).join(', ')}]`;
/** @param {number} value */
const count = (value) => value.toLocaleString('en-US');
