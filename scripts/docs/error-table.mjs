const BEGIN = '<!-- errors: written by `npm run docs` -->';
const END = '<!-- end of errors -->';

/**
 * A table of all error codes.
 *
 * @param {Readonly<Record<string, { status: number, meaning: string }>>} errors
 * @returns {string} Markdown
 */
export function errorTable(errors) {
  const rows = Object.entries(errors).map(([code, { status, meaning }]) => `| \`${code}\` | ${status} | ${meaning} |`);
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
