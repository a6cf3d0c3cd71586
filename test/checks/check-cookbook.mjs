// npm run check-cookbook: recipes of tinker-cookbook, unchanged, against a service with the demo model: supervised training, rewards,
// preferences and distillation, three steps each, and the refusal of a loss whose formula is not published. The packages come from PyPI (some
// gigabytes); LOADERS_DIR is where they are kept.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { createClient } from '../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { PEER_ENVIRONMENT, pythonOf, Report, untilMeasured } from './check-loaders/answers.mjs';

const ROOT = process.env.LOADERS_DIR ?? path.join(cacheDir(process.env), 'loaders');
const RECIPE = path.join(ROOT_DIR, 'test/checks/check-cookbook/recipe.py');
const RECIPES = ['sl_basic', 'sl_loop', 'rl_basic', 'rl_loop', 'preference', 'distillation'];
const REFUSED = 'rl_loop of stable_reinforce';
const REFUSAL = 'Train with loss_fn=ppo or importance_sampling';

await runAsCommand(async () => {
  const signal = interruption();
  const folder = await mkdtemp(path.join(tmpdir(), 'check-cookbook-'));
  const report = new Report();
  try {
    await check(folder, report, signal);
    return report.failures === 0 ? 0 : 1;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.log('\nInterrupted.');
    return 130;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/** @param {string} folder @param {Report} report @param {AbortSignal} signal */
async function check(folder, report, signal) {
  const python = await pythonOf(ROOT, 'cookbook', signal);
  const modelsDir = path.join(ROOT_DIR, 'models');
  const stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir, signal });
  try {
    await untilMeasured(createClient({ baseUrl: stack.apiUrl }), signal);
    const env = {
      ...PEER_ENVIRONMENT,
      ...{ TINKER_BASE_URL: `${stack.apiUrl}/tinker`, TINKER_API_KEY: 'tml-none', WANDB_MODE: 'disabled' },
    };
    for (const recipe of [...RECIPES, REFUSED]) {
      // The tokenizer is read from the folder that has the name of the model.
      const args = [RECIPE, recipe, path.join(folder, recipe), DEMO_MODEL_NAME];
      const failure = await promisify(execFile)(python, args, { env, cwd: modelsDir, signal, maxBuffer: 2 ** 26 }).then(
        () => null,
        (error) => String(error.stderr || error),
      );
      signal.throwIfAborted();
      const wanted = recipe === REFUSED ? failure?.includes(REFUSAL) : failure === null;
      if (wanted) report.line('cookbook', recipe, failure === null ? 'three steps' : `refused: ${REFUSAL}`);
      else report.failure('cookbook', recipe, failure ?? 'was not refused');
    }
  } finally {
    await stack.stop();
  }
}
