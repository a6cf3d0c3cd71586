import { ERROR_MEANINGS } from './error-meanings.mjs';

const BEGIN = '<!-- errors: written by `npm run docs` -->';
const END = '<!-- end of errors -->';

/**
 * A table of all error codes.
 *
 * @param {Readonly<Record<string, number>>} statusOfCode
 * @returns {string} Markdown
 * @throws {Error} when a code has no text, or a text has no code
 */
export function errorTable(statusOfCode) {
  const unknown = Object.keys(ERROR_MEANINGS).filter((code) => !(code in statusOfCode));
  const missing = Object.keys(statusOfCode).filter((code) => !(code in ERROR_MEANINGS));
  if (unknown.length + missing.length > 0) {
    throw new Error(
      `scripts/docs/error-meanings.mjs lacks the codes [${missing}] and has the unknown codes [${unknown}]`,
    );
  }
  const rows = Object.entries(statusOfCode).map(
    ([code, status]) => `| \`${code}\` | ${status} | ${ERROR_MEANINGS[code]} |`,
  );
  return ['| Code | Status | When, and what to do |', '| --- | --- | --- |', ...rows].join('\n');
}

/**
 * Replaces the table between the two marks of the page.
 *
 * @param {string} page
 * @param {string} table
 * @throws {Error} when the page lacks the marks
 */
export function withErrorTable(page, table) {
  const [before, rest = ''] = page.split(BEGIN);
  const [, after] = rest.split(END);
  if (before === undefined || after === undefined) throw new Error(`the page lacks ${BEGIN} or ${END}`);
  return `${before}${BEGIN}\n\n${table}\n\n${END}${after}`;
}
