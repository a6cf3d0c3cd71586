import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
// @ts-expect-error The package has no declarations.
import { createInstrumenter } from 'istanbul-lib-instrument';

/** The readers, and the library that reads tars. */
const MEASURED =
  /\/(packages\/(weight-files|model-folder|planning|row-files|tinker-wire)\/dist|services\/api\/dist\/datasets|services\/registry\/dist\/importing|node_modules\/tar\/dist\/esm|node_modules\/(csv-parse\/lib|fzstd\/esm|hyparquet\/src))\/.*\.js$/;

/**
 * A hook of Node's module loader. Instrumented modules count the runs of their statements and branches in the global
 * `__coverage__`.
 *
 * @type {import('node:module').LoadHook}
 */
export const load = async (url, context, nextLoad) => {
  if (!url.startsWith('file:') || !MEASURED.test(url)) return await nextLoad(url, context);
  const file = fileURLToPath(url);
  const instrumenter = createInstrumenter({ esModules: true, produceSourceMap: false, compact: true });
  const source = instrumenter.instrumentSync(await readFile(file, 'utf8'), file);
  return { format: 'module', source, shortCircuit: true };
};
