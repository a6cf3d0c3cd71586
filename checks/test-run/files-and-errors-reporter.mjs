import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

const SHOWN = 10;

/** A file beside vitest's JSON report, which lacks what failed outside of tests: `{ message }[]`. */
export const ERRORS_FILE = 'unhandled-errors.json';

/**
 * Prints the slowest test files, with what loading them and their hooks took, and writes {@link ERRORS_FILE}. A reporter of vitest.
 */
export default class FilesAndErrorsReporter {
  /** @type {string | undefined} */
  #folder;

  /** @param {import('vitest/node').Vitest} vitest */
  onInit({ config: { outputFile } }) {
    if (typeof outputFile === 'object' && outputFile.json !== undefined) this.#folder = path.dirname(outputFile.json);
  }

  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly import('vitest/node').SerializedError[]} errors outside of tests, such as a rejected promise that nobody awaits
   */
  onTestRunEnd(modules, errors) {
    if (this.#folder !== undefined && errors.length > 0) {
      const described = errors.map(({ message, stack }) => ({ message: stack ?? message }));
      writeFileSync(path.join(this.#folder, ERRORS_FILE), JSON.stringify(described));
    }
    const files = modules.map((module) => {
      const { collectDuration, setupDuration, duration } = module.diagnostic();
      return {
        name: path.relative(ROOT_DIR, module.moduleId),
        seconds: (collectDuration + setupDuration + duration) / 1000,
      };
    });
    const slowest = files.sort((a, b) => b.seconds - a.seconds).slice(0, SHOWN);
    if (files.length <= 1) return;
    console.log('The slowest files:');
    for (const { name, seconds } of slowest) console.log(`${seconds.toFixed(1).padStart(7)} s  ${name}`);
  }
}
