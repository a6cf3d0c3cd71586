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
