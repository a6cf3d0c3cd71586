// npm run check: format, lint, types and the format of C++, all at the same time, without a test. It installs the Node packages
// if they are missing, and nothing else.
import { installPackages, runAsCommand } from '../scripts/setup.mjs';
import { runChecks } from './test-run/checks.mjs';

await runAsCommand(async () => {
  await installPackages();
  const failed = await runChecks();
  if (failed.length > 0) console.log(`\nFailed: ${failed.join(', ')}. \`npm run format\` mends format.`);
  return failed.length > 0 ? 1 : 0;
});
