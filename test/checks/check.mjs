// npm run check: format, lint, types and the format of C++, all at the same time, and then the tests of the repository itself: documents,
// docstrings, dependencies, compose files, release, chart, set-up, and these checks' own.
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { OF_THE_REPOSITORY } from '../usual-files.mjs';
import { runChecks } from './test-run/checks.mjs';
import { runVitest } from './test-run/run-vitest.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp();
  const failed = await runChecks();
  const { passed } = await runVitest(OF_THE_REPOSITORY, { ...process.env, MODELS_DIR: modelsDir });
  if (!passed) failed.push('tests of the repository');
  if (failed.length > 0) console.log(`\nFailed: ${failed.join(', ')}. \`npm run format\` mends format.`);
  return failed.length > 0 ? 1 : 0;
});
