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
  const { name, maxWorse, deliver } = night;
  const heldOut = await client.uploadDataset({ text: night.heldOut }, { name: `${name} held out` });
  const guard = { dataset: heldOut.id, metric: /** @type {const} */ ('loss'), max_worse: maxWorse };
  // The name moves once the job has succeeded, unless the present adapter is better: then it stays, and so does what was delivered.
  const job = await trainedJob(client, night, { kind: 'name', name, guard }, say);
  if (job.adapter === null) throw new Error(`the job ${job.id} ${job.status}: ${job.error?.message ?? ''}`);
  const { status, error } = await endedMove(client, job.adapter);
  const moved = status === 'delivered';
  if (!moved && error?.code !== 'guard_failed') throw new Error(`${name} was not moved: ${error?.message ?? status}`);
  const why = moved ? lossesOf((await client.alias(name)).history[0]?.guard ?? null) : (error?.message ?? '');
  say(`${name} ${moved ? 'moved to' : 'was not moved to'} ${job.adapter}: ${why}`);
  await client.setAliasDeliveries(name, deliver);
  return { job, moved, why, deliveries: await endedDeliveries(client, name) };
}

/**
 * The job of the night, ended. It continues the adapter that the name has, if there is one.
 *
 * @param {Client} client
 * @param {Night} night
 * @param {import('../../packages/client/dist/index.js').DeliveryTarget} to
 * @param {(text: string) => void} say
 */
async function trainedJob(client, { name, date, rows, baseModel, settings }, to, say) {
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
    ...{ base_model: baseModel, dataset: dataset.id, name: title, lora, deliver: [to] },
    ...(settings?.training === undefined ? {} : { training: settings.training }),
  });
  say(`${id} trains on ${dataset.rows} rows${present === null ? '' : `, from ${present.adapter} on`}`);
  return await client.waitForJob(id);
}

/** @param {Client} client @param {string} adapter */
async function endedMove(client, adapter) {
  for (;;) {
    const move = (await client.deliveries(adapter)).find(({ to }) => to.kind === 'name');
    if (move !== undefined && move.ended_at !== null) return move;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
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
