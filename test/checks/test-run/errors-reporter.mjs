import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';

/** A file beside vitest's JSON report, which lacks what failed outside of tests: `{ message }[]`. */
export const ERRORS_FILE = 'unhandled-errors.json';

/**
 * Writes {@link ERRORS_FILE}. A reporter of vitest.
 */
export default class ErrorsReporter {
  /** @type {string | undefined} */
  #folder;

  /** @param {import('vitest/node').Vitest} vitest */
  onInit({ config: { outputFile } }) {
    if (typeof outputFile === 'object' && outputFile.json !== undefined) this.#folder = path.dirname(outputFile.json);
  }

  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly import('vitest/node').SerializedError[]} errors outside of tests, such as a rejected promise that nobody awaits, or a
   *   process that died: then its files have not ended
   */
  onTestRunEnd(modules, errors) {
    if (this.#folder !== undefined && errors.length > 0) {
      const notEnded = modules.filter((module) => ['pending', 'queued'].includes(module.state()));
      const described = [
        ...errors.map(({ message, stack }) => ({ message: stack ?? message })),
        ...notEnded.map(({ moduleId }) => ({ message: `did not end: ${path.relative(ROOT_DIR, moduleId)}` })),
      ];
      writeFileSync(path.join(this.#folder, ERRORS_FILE), JSON.stringify(described));
    }
  }
}
