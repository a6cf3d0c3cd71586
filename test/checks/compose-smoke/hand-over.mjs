import { noStepTwice, startsOf } from './api-calls.mjs';
import { docker } from './docker.mjs';

/**
 * Stops the container of the worker that trains, as `docker stop` and a drained node do, and checks that the other worker continues its job:
 * within the time that Compose leaves it, no step twice, the same bytes of the adapter as without a stop.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack with two workers
 * @param {ReturnType<typeof import('./api-calls.mjs').createApiCalls>} api
 * @param {Record<string, unknown> & { training: { max_steps: number } }} job
 * @returns {Promise<string>} a line for the report
 */
export async function checkHandOver(stack, api, job) {
  const steps = job.training.max_steps;
  const id = await api.createJob(job);
  const { progress } = await api.waitForJob(id, ({ status, progress }) => status === 'running' && progress?.step >= 3);
  const [name = ''] = startsOf(await api.events(id));
  const container = (await stack.containers()).find((one) => one.id.startsWith(name) || name.startsWith(one.id));
  if (!container) throw new Error(`no container is named as the worker ${name} is`);
  const { stdout: grace } = await docker(['inspect', '--format', '{{.Config.StopTimeout}}', container.id]);
  const startedAt = performance.now();
  // Without a time of its own, it leaves the container what Compose gave it.
  await docker(['stop', container.id]);
  const seconds = (performance.now() - startedAt) / 1000;
  const { stdout: exit } = await docker(['inspect', '--format', '{{.State.ExitCode}}', container.id]);
  if (exit.trim() !== '0') throw new Error(`the worker ended with ${exit.trim()} after ${seconds.toFixed(0)} s`);
  const stopped = await api.waitForJob(id, ({ status }) => status === 'succeeded');
  const events = await api.events(id);
  const workers = startsOf(events);
  if (workers.length !== 2 || workers[0] === workers[1]) throw new Error(`the job was started by ${workers}`);
  noStepTwice(events, steps);
  const again = await api.waitForJob(await api.createJob(job), ({ status }) => status === 'succeeded');
  const weights = (/** @type {string} */ adapter) =>
    api.download(`/adapters/${adapter}/files/adapter_model.safetensors`);
  const [one, other] = await Promise.all([stopped, again].map(({ adapter }) => weights(adapter)));
  if (!one || !other?.equals(one)) throw new Error('the adapter is another one than without a stop');
  await docker(['start', container.id]);
  await stack.healthy();
  const at = `stopped after step ${progress.step} in ${seconds.toFixed(0)} of ${grace.trim()} s`;
  return `${at}, ${workers.join(' then ')}: no step of ${steps} twice, the same ${one.length} bytes as without a stop`;
}
