// The numbers as text.

/**
 * @typedef {{
 *   linear: ReturnType<typeof import('./layers.mjs').linearLayer>,
 *   lora: Awaited<ReturnType<typeof import('./layers.mjs').loraLayer>>,
 *   savings: ReturnType<typeof import('./layers.mjs').savings>,
 * }} LayerNumbers
 * @typedef {Awaited<ReturnType<typeof import('./trained-stack.mjs').trainedStack>>} StackNumbers
 */

/** @param {LayerNumbers} numbers */
export function layersText({ linear, lora, savings }) {
  return `A linear layer: y = x Wᵀ + b, with W [2, 3]
  x Wᵀ      ${list(linear.product)}
  y         ${list(linear.y)}
  trainable ${linear.numbers} numbers
  4096 × 4096 has ${count(linear.large.weights)} weights, ${count(linear.large.withBias)} numbers with its bias

With LoRA: y = x Wᵀ + (alpha / r) · (x Aᵀ) Bᵀ, with W [4, 3], A [2, 3], B [4, 2], r = 2, alpha = 4
  BA        ${lora.ba.map(list).join(' ')}
  Ax        ${list(lora.ax)}
  B(Ax)     ${list(lora.bax)}
  scaled    ${list(lora.scaled)}, by ${lora.scale}
  Wx        ${list(lora.wx)}
  y         ${list(lora.y)}
  merged    ${lora.merged.map(list).join(' ')}
  its y     ${list(lora.mergedY)}

Savings of r = 8 on 4096 × 4096
  trained   ${count(savings.trained)} numbers instead of ${count(savings.frozen)}: ${savings.fewerPercent.toFixed(2)} % fewer
`;
}

/** @param {StackNumbers} stack */
export function stackText(stack) {
  const { initial, test } = stack;
  const share = (/** @type {number} */ right) => `${right} of ${test.rows} right`;
  return `  trained   ${count(stack.trained)} of ${count(stack.total)} numbers; the frozen ones are ${stack.baseIsUnchanged ? 'the same bytes as before' : 'CHANGED'}
  at first  A within ±${initial.largestA.toFixed(2)}/√in, B ${initial.largestB}: the model with it differs from the base by ${initial.difference}
  training  ${stack.steps} steps in ${stack.seconds.toFixed(1)} s; loss ${stack.loss.first.toFixed(3)} → ${stack.loss.last.toFixed(3)}
  before    ${share(test.before)}, on rows that it was not trained on
  after     ${share(test.unmerged)} with the adapter beside the base, ${share(test.merged)} merged
  merged    ${stack.sameAnswers ? 'the same answers' : 'OTHER ANSWERS'}; scores up to ${stack.largestLogit.toFixed(1)} differ by ${stack.mergedDifference.toExponential(1)} at most
  cost      ${stack.sameTensors ? 'the merged model has the tensors of the base, and takes the same time' : 'OTHER TENSORS'}`;
}

/** @param {number[]} [numbers] */
function list(numbers = []) {
  return `[${numbers.map((value) => Number(value.toPrecision(6))).join(', ')}]`;
}

/** @param {number} value */
function count(value) {
  return value.toLocaleString('en-US');
}
