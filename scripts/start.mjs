import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from './setup/locations.mjs';
import { SetupError } from './setup/run-steps.mjs';
import { runAsCommand, setUp } from './setup.mjs';
import { interruption, whenAborted } from './stack/interruption.mjs';
import { consoleReport, startStack } from './stack/start-stack.mjs';

const USAGE = `npm start: sets up what is missing, then runs the service until Ctrl-C.

It takes no arguments but --help. Variables of the environment set it:

  API_PORT=8080         port of the API and its page; 0: any free one
  API_HOST=127.0.0.1    address of the API; any other than this machine's own needs API keys first
  REGISTRY_PORT=8081    port of the registry, on this machine alone
  DATA_DIR=data         folder of datasets, adapters, jobs and logs
  MODELS_DIR=models     folder with one folder per base model
  REDIS_URL=            a Redis that runs; without it, one is started
  DEVICE=auto           cpu, or gpu: end if no GPU can be used

such as: API_PORT=9000 npm start
All settings: docs/configuration.md. API keys: npm run keys -- --help
`;

/** @param {string[]} args */
function checkArguments(args) {
  try {
    const { values } = parseArgs({ args, options: { help: { type: 'boolean', short: 'h' } } });
    return values.help === true;
  } catch {
    const shown = args.map((one) => JSON.stringify(one)).join(' ');
    throw new SetupError(
      `npm start takes no arguments but --help, not ${shown}`,
      'set what you need by variables of the environment, such as API_PORT=9000 npm start.',
    );
  }
}

/**
 * @param {string} setting
 * @param {number} whenUnset
 */
function portOf(setting, whenUnset) {
  const value = process.env[setting] || String(whenUnset);
  if (/^\d{1,5}$/.test(value) && Number(value) <= 65_535) return Number(value);
  throw new SetupError(
    `${setting} is ${JSON.stringify(value)}, not a port`,
    `set ${setting} to a number from 0 to 65535, such as ${whenUnset}.`,
  );
}

/** @param {import('./stack/start-stack.mjs').Stack} stack @param {string} modelsDir */
function describeStart(stack, modelsDir) {
  const missing = stack.missing();
  const state = missing.length === 0 ? 'Lorasmith is ready.' : 'Lorasmith answers, and jobs wait until it is ready.';
  const places = [
    `Its page: ${stack.apiUrl}/ (API: ${stack.apiUrl}/docs)`,
    `Logs: ${stack.logsDir}`,
    `Models: ${modelsDir}`,
    'Ctrl-C stops it.',
  ];
  return `\n${state} ${places.join('\n')}\n${missing.map((what) => `Not yet: ${what}\n`).join('')}\n`;
}

await runAsCommand(async () => {
  if (checkArguments(process.argv.slice(2))) {
    process.stdout.write(USAGE);
    return 0;
  }
  const apiPort = portOf('API_PORT', 8080);
  const registryPort = portOf('REGISTRY_PORT', 8081);
  const { modelsDir, redis } = await setUp();
  const interrupted = interruption();
  const stack = await startStack({
    dataDir: path.resolve(ROOT_DIR, process.env.DATA_DIR || 'data'),
    modelsDir,
    ...(process.env.API_HOST ? { apiHost: process.env.API_HOST } : {}),
    apiPort,
    registryPort,
    ...(redis ? { redis } : {}),
    signal: interrupted,
    onEvent: consoleReport(process.stdout),
  }).catch((error) => {
    if (interrupted.aborted) return undefined;
    throw error;
  });
  if (!stack) return 130;
  process.stdout.write(describeStart(stack, modelsDir));
  if (stack.missing().length > 0) {
    void stack.working.then(() => process.stdout.write('\nLorasmith is ready: jobs start.\n\n'));
  }
  const failure = await Promise.race([stack.failed, whenAborted(interrupted)]);
  if (failure) throw failure;
  await stack.stop();
  return 0;
});
