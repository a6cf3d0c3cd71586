import { execFile, fork } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { trainerEnvironment } from '../../services/worker/dist/trainer/trainer-program.js';
import { childAnswer } from './child-answer.mjs';
import { model, options, ROOT } from './options.mjs';
import { doing } from './progress.mjs';

const run = promisify(execFile);

/** @param {string} text */
export function say(text) {
  process.stdout.write(`${text}\n`);
}

/**
 * Measures one part in its own process, with the environment of a trainer.
 *
 * @param {string} part
 * @param {object} task
 * @param {string} root the checkout that is measured
 * @returns {Promise<any>}
 */
export async function measured(part, task, root = ROOT) {
  doing(`measuring ${part} ${JSON.stringify(task)}`.slice(0, 150));
  const child = fork(path.join(root, 'test/bench/measure.mjs'), [], {
    env: trainerEnvironment(process.env),
    serialization: 'advanced',
  });
  child.send({ part, options: { model, ...task } });
  return await childAnswer(child, `the part ${part}`);
}

/** @param {string} script @param {string[]} parameters */
export async function peer(script, parameters) {
  doing(`${script} ${parameters.join(' ')}`.slice(0, 150));
  const python = /** @type {string} */ (options['peer-python']);
  const { stdout } = await run(python, [path.join(ROOT, 'bench', script), ...parameters], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
}
