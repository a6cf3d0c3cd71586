/**
 * One night of a model that is trained every night.
 *
 * @typedef {import('../../packages/client/dist/index.js').Client} Client
 * @typedef {import('../../packages/client/dist/index.js').JobRequest} JobRequest
 * @typedef {Awaited<ReturnType<Client['getJob']>>} Job
 * @typedef {Awaited<ReturnType<Client['aliasDeliveries']>>[number]} Delivery
 *
 * @typedef {object} Night
 * @property {string} name that users ask for
 * @property {string} date of the night: a night that is run again continues where it was
 * @property {string} rows new ones, JSONL
 * @property {string} heldOut rows that no night trains on, JSONL
 * @property {string} baseModel
 * @property {number} maxWorse by how much the loss on the held-out rows may exceed that of the present adapter
 * @property {Parameters<Client['setAliasDeliveries']>[1]} deliver the places that follow the name
 * @property {Pick<JobRequest, 'lora' | 'training'>} [settings]
 *
 * @param {Client} client
 * @param {Night} night
 * @param {(text: string) => void} [say]
 * @returns {Promise<{ job: Job, moved: boolean, why: string, deliveries: Delivery[] }>}
 */
export async function runNight(client, night, say = () => {}) {
  const { name, date, maxWorse, deliver } = night;
  const job = await trainedJob(client, night, say);
  if (job.adapter === null) throw new Error(`the job ${job.id} ${job.status}: ${job.error?.message ?? ''}`);
  const heldOut = await client.uploadDataset({ text: night.heldOut }, { name: `${name} held out` });
  const guard = { dataset: heldOut.id, metric: /** @type {const} */ ('loss'), max_worse: maxWorse };
  const outcome = await client.moveAlias(name, { adapter: job.adapter, reason: `night of ${date}`, guard }).then(
    ({ history: [move] }) => ({ moved: true, why: lossesOf(move?.guard ?? null) }),
    (error) => {
      // The present adapter is better, and stays.
      if (error?.code === 'guard_failed') return { moved: false, why: error.message };
      throw error;
    },
  );
  say(`${name} ${outcome.moved ? 'moved to' : 'was not moved to'} ${job.adapter}: ${outcome.why}`);
  await client.setAliasDeliveries(name, deliver);
  return { job, ...outcome, deliveries: await endedDeliveries(client, name) };
}

/**
 * The job of the night, ended. It continues the adapter that the name has, if there is one.
 *
 * @param {Client} client
 * @param {Night} night
 * @param {(text: string) => void} say
 */
async function trainedJob(client, { name, date, rows, baseModel, settings }, say) {
  const title = `${name} ${date}`;
  const { data } = await client.listJobs({ q: title, limit: 100 });
  const before = data.find((job) => job.name === title && !['failed', 'cancelled'].includes(job.status));
  if (before !== undefined) return await client.waitForJob(before.id);
  const dataset = await client.uploadDataset({ text: rows }, { name: title });
  const present = await client.alias(name).catch((error) => {
    if (error?.code === 'alias_not_found') return null;
    throw error;
  });
  const lora = { ...settings?.lora, ...(present === null ? {} : { init_from: present.adapter }) };
  const { id } = await client.createJob({
    ...{ base_model: baseModel, dataset: dataset.id, name: title, lora },
    ...(settings?.training === undefined ? {} : { training: settings.training }),
  });
  say(`${id} trains on ${dataset.rows} rows${present === null ? '' : `, from ${present.adapter} on`}`);
  return await client.waitForJob(id);
}

/** @param {Client} client @param {string} name */
async function endedDeliveries(client, name) {
  for (;;) {
    const deliveries = await client.aliasDeliveries(name);
    if (deliveries.every(({ ended_at }) => ended_at !== null)) return deliveries;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** @param {{ before: number | null, after: number } | null} guard */
function lossesOf(guard) {
  if (guard === null) return 'it had this adapter already';
  const { before, after } = guard;
  return before === null
    ? `loss ${after.toFixed(4)}, the first`
    : `loss ${after.toFixed(4)} after ${before.toFixed(4)}`;
}
