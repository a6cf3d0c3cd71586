import path from 'node:path';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

const SHOWN = 10;

/**
 * Prints the slowest test files, with what loading them and their hooks took. A reporter of vitest.
 */
export default class SlowestFilesReporter {
  /** @param {readonly import('vitest/node').TestModule[]} modules */
  onTestRunEnd(modules) {
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
