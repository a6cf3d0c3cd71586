import { writeFileSync } from 'node:fs';
import path from 'node:path';

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
   * @param {readonly import('vitest/node').TestModule[]} _modules
   * @param {readonly import('vitest/node').SerializedError[]} errors outside of tests, such as a rejected promise that nobody awaits
   */
  onTestRunEnd(_modules, errors) {
    if (this.#folder !== undefined && errors.length > 0) {
      const described = errors.map(({ message, stack }) => ({ message: stack ?? message }));
      writeFileSync(path.join(this.#folder, ERRORS_FILE), JSON.stringify(described));
    }
  }
}
