import path from 'node:path';
import { ROOT_DIR } from './setup/locations.mjs';
import { SetupError } from './setup/setup-error.mjs';
import { runAsCommand, setUp } from './setup.mjs';
import { consoleReport } from './stack/console-report.mjs';
import { interruption, whenAborted } from './stack/interruption.mjs';
import { startStack } from './stack/start-stack.mjs';

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

await runAsCommand(async () => {
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
  process.stdout.write(
    `\nLorasmith is ready. Its page: ${stack.apiUrl}/ (API: ${stack.apiUrl}/docs)\nLogs: ${stack.logsDir}\nModels: ${modelsDir}\nCtrl-C stops it.\n\n`,
  );
  const failure = await Promise.race([stack.failed, whenAborted(interrupted)]);
  if (failure) throw failure;
  await stack.stop();
  return 0;
});
