import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { docker } from './docker.mjs';
import { HARDENED } from './gpu-worker.mjs';

const HOST = 'smoke-hub';
const PORT = 8000;
const REPO = 'org/tiny-llama';
/** Invented, for the hub of this test alone. */
const TOKEN = 'hf_aTokenOfTheSmokeTest';
const START_TIMEOUT_MS = 30_000;

/** The lines of .env by which the stack uses the hub of this test. */
export const HUB_SETTINGS = { HF_ENDPOINT: `http://${HOST}:${PORT}`, HF_TOKEN: TOKEN };

/**
 * Pulls a gated base model into the models folder, from a hub in a container on the network that the puller shares with the
 * outside.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {ReturnType<typeof import('./api-calls.mjs').createApiCalls>} api
 * @returns {Promise<{ name: string, report: string }>} `name`: of the base model
 * @throws {Error} when the pull fails, or the api does not list the model as one from this hub
 */
export async function checkModelPull(stack, api) {
  const container = `${stack.project}-hub`;
  const options = ['--detach', '--name', container, '--volume', `${ROOT_DIR}:/lorasmith:ro`, ...HARDENED];
  const network = ['--network', `${stack.project}_outside`, '--hostname', HOST, '--network-alias', HOST];
  const program = ['node', '/lorasmith/checks/compose-smoke/local-hub.mjs'];
  const hub = [HOST, String(PORT), REPO, TOKEN];
  await docker(['run', ...options, ...network, stack.image('api'), ...program, ...hub]);
  try {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const { output } = await docker(['logs', container]);
      if (output.includes('The hub is at')) break;
      if (Date.now() > deadline) throw new Error(`the hub did not start:\n${output}`);
      await sleep(200);
    }
    const model = await api.pullModel(REPO);
    if (model?.problem !== null || model.origin?.repo !== REPO)
      throw new Error(`the api lists the pulled model as ${JSON.stringify(model)}`);
    return { name: model.name, report: `${model.name} from ${REPO} at ${model.origin.commit}` };
  } finally {
    await docker(['rm', '--force', container], { expectFailure: true });
  }
}
