import { table } from '../../bench/tables.mjs';

/**
 * The counters of the engine, a row for each: whichever it has.
 *
 * @param {{ name: string, counts: Record<string, number> }[]} columns
 * @returns {string} Markdown
 */
export function countsTable(columns) {
  const names = [...new Set(columns.flatMap(({ counts }) => Object.keys(counts)))];
  const rows = names.map((name) => [words(name), ...columns.map(({ counts }) => number(counts[name]))]);
  return table(['a step', ...columns.map(({ name }) => name)], rows).trimEnd();
}

/** @param {string} name such as failedAllocations */
function words(name) {
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** @param {number | undefined} value */
function number(value) {
  return value === undefined ? '' : value.toFixed(Number.isInteger(value) || value >= 1000 ? 0 : 1);
}
