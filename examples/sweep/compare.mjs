/**
 * A sweep over learning rates, and a training of its own for each of them.
 *
 * @typedef {import('../../packages/client/dist/index.js').Client} Client
 * @typedef {import('../../packages/client/dist/index.js').JobRequest} JobRequest
 *
 * @typedef {object} Compared
 * @property {number} rate
 * @property {number | null} inSweep the held-out loss of the variant of the sweep
 * @property {number | null} alone that of a training by itself
 * @property {[step: number, loss: number][]} losses of the latter, of one step a second at most
 *
 * @param {Pick<Client, 'createSweep' | 'waitForSweep' | 'createJob' | 'waitForJob'>} client
 * @param {{ job: JobRequest, rates: number[], onProgress?: (text: string) => void }} options
 * @returns {Promise<{ best: number, compared: Compared[] }>} `best`: the rate that the sweep says is the best
 */
export async function compareRates(client, { job, rates, onProgress = () => {} }) {
  const { id } = await client.createSweep({
    job,
    space: { 'training.learning_rate': { values: rates } },
    name: 'learning rates',
  });
  const sweep = await client.waitForSweep(id);
  if (sweep.status !== 'succeeded') throw new Error(`the sweep ${sweep.status}`);
  onProgress(`${id} has ended.`);
  const compared = [];
  for (const [index, rate] of rates.entries()) {
    /** @type {Compared['losses']} */
    const losses = [];
    /** @type {number | null} */
    let alone = null;
    const created = await client.createJob({ ...job, training: { ...job.training, learning_rate: rate } });
    const { status } = await client.waitForJob(created.id, {
      onEvent({ type, data }) {
        if (type === 'step-finished') losses.push([data.step, data.loss]);
        if (type === 'evaluation-finished') alone = data.loss;
      },
    });
    const inSweep = sweep.variants[index]?.metric ?? null;
    compared.push({ rate, inSweep, alone: status === 'succeeded' ? alone : null, losses });
    onProgress(`${rate}: ${inSweep} in the sweep, ${alone} alone.`);
  }
  const best = sweep.variants.find((one) => one.job === sweep.best)?.values['training.learning_rate'];
  return { best: Number(best), compared };
}

const WIDTH = 420;
const HEIGHT = 280;
const LEFT = 60;
const BOTTOM = 45;
const TOP = 40;
const COLORS = ['#440154', '#46327e', '#365c8d', '#277f8e', '#1fa187', '#4ac16d', '#a0da39', '#d4c518'];

/**
 * The picture of the comparison, as SVG: the held-out loss over the rate, and the loss of the steps of each training.
 *
 * @param {{ best: number, compared: Compared[] }} result
 */
export function pictureOf({ best, compared }) {
  const known = compared.filter(({ inSweep, alone }) => inSweep !== null && alone !== null);
  const heldOut = known.flatMap(({ inSweep, alone }) => [inSweep ?? 0, alone ?? 0]);
  const rates = compared.map(({ rate }) => Math.log10(rate));
  const [first = 0, last = 0] = [rates[0], rates.at(-1)];
  const across = (/** @type {number} */ rate) =>
    LEFT + ((Math.log10(rate) - first) / (last - first)) * (WIDTH - LEFT - 30);
  const y = heightOf(heldOut);
  const line = known.map(({ rate, inSweep }) => `${across(rate).toFixed(1)},${y(inSweep ?? 0)}`).join(' ');
  const marks = known.map(({ rate, inSweep, alone }, index) => {
    const x = across(rate).toFixed(1);
    const ring = `<circle cx="${x}" cy="${y(inSweep ?? 0)}" r="6" fill="none" stroke="${COLORS[index]}" stroke-width="2"/>`;
    const name = `<text x="${x}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${rate}</text>`;
    const value =
      rate === best
        ? `<text x="${x}" y="${Number(y(inSweep ?? 0)) + 20}" text-anchor="middle" font-weight="bold">${inSweep?.toFixed(3)}</text>`
        : '';
    return `${ring}<circle cx="${x}" cy="${y(alone ?? 0)}" r="2.5" fill="${COLORS[index]}"/>${name}${value}`;
  });
  const all = compared.flatMap(({ losses }) => losses);
  const steps = Math.max(...all.map(([step]) => step));
  const h = heightOf(all.map(([, loss]) => loss));
  const at = (/** @type {number} */ step) => WIDTH + LEFT + ((step - 1) / (steps - 1)) * (WIDTH - LEFT - 30);
  const curves = compared.map(({ losses }, index) => {
    const points = losses.map(([step, loss]) => `${at(step).toFixed(1)},${h(loss)}`).join(' ');
    return `<polyline points="${points}" fill="none" stroke="${COLORS[index]}" stroke-width="1.5"/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">
<title>Held-out loss by learning rate, and the loss of each step</title>
<rect width="100%" height="100%" fill="white"/>
${axes(0, 'held-out loss: ring in a sweep, dot alone', 'learning rate')}
${axes(WIDTH, 'loss of the step', `${steps} steps`)}
<polyline points="${line}" fill="none" stroke="#888"/>
${marks.join('\n')}
${curves.join('\n')}
</svg>
`;
}

/** @param {number[]} values @returns {(value: number) => string} */
function heightOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return (value) => (TOP + ((high - value) / (high - low || 1)) * (HEIGHT - BOTTOM - TOP - 25)).toFixed(1);
}

/** @param {number} offset @param {string} up @param {string} along */
function axes(offset, up, along) {
  const [left, bottom] = [offset + LEFT - 15, HEIGHT - BOTTOM];
  return `<line x1="${left}" y1="${bottom}" x2="${offset + WIDTH - 15}" y2="${bottom}" stroke="#888"/>
<line x1="${left}" y1="${TOP - 10}" x2="${left}" y2="${bottom}" stroke="#888"/>
<text x="${left}" y="${TOP - 20}">${up}</text>
<text x="${offset + WIDTH / 2 + 20}" y="${HEIGHT - 10}" text-anchor="middle">${along}</text>`;
}
