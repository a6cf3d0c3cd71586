import path from 'node:path';

/**
 * @typedef {object} Run
 * @property {string} condition
 * @property {string} note
 * @property {number} tests that ran
 * @property {number} seconds
 * @property {Failure[]} failures
 *
 * @typedef {object} Failure
 * @property {string} file relative to the repository
 * @property {string} test its full name; empty if the file could not be loaded, or the whole run failed
 * @property {string} message the first line
 */

/**
 * The failures in vitest's JSON report.
 *
 * @param {any} report
 * @param {string} root the repository's folder
 * @returns {Failure[]}
 */
export function failuresOf(report, root) {
  return report.testResults.flatMap((/** @type {any} */ { name, status, message, assertionResults }) => {
    const file = path.relative(root, name);
    const failed = assertionResults.filter((/** @type {any} */ test) => test.status === 'failed');
    if (status === 'failed' && failed.length === 0) return [{ file, test: '', message: firstLine(message) }];
    return failed.map((/** @type {any} */ { ancestorTitles, title, failureMessages }) => ({
      file,
      test: [...ancestorTitles, title].join(' › '),
      message: firstLine(failureMessages?.[0] ?? ''),
    }));
  });
}

/** @param {string} text */
const firstLine = (text) => text.split('\n', 1)[0] ?? '';

/**
 * A table in Markdown: one line for each condition, one for each of its failing tests.
 *
 * @param {Run[]} runs
 * @returns {string}
 */
export function huntTable(runs) {
  const lines = ['| Condition | Runs | Green | Failures: file › test |', '| --- | ---: | ---: | --- |'];
  for (const condition of new Set(runs.map((run) => run.condition))) {
    const own = runs.filter((run) => run.condition === condition);
    /** @type {Map<string, number>} */
    const times = new Map();
    for (const { failures } of own) {
      for (const { file, test } of failures) {
        const name = `\`${file}\`${test === '' ? '' : ` › ${test.replaceAll('|', '\\|')}`}`;
        times.set(name, (times.get(name) ?? 0) + 1);
      }
    }
    const listed = [...times].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} × ${name}`);
    const green = own.filter(({ failures }) => failures.length === 0).length;
    lines.push(`| ${condition} | ${own.length} | ${green} | ${listed.join('<br>') || 'none'} |`);
  }
  return `${lines.join('\n')}\n`;
}
