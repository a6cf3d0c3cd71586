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
