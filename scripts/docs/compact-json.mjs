/** Characters of a line. */
const WIDTH = 160;

/**
 * JSON in which a value stands in one line if it fits: an entry of a table a line, where an indented one takes a line for each number.
 *
 * @param {unknown} value
 * @param {string} [indent]
 * @returns {string}
 */
export function compactJson(value, indent = '') {
  const line = oneLine(value);
  if (indent.length + line.length <= WIDTH || typeof value !== 'object' || value === null) return line;
  const deeper = `${indent} `;
  const [open, close, entries] = Array.isArray(value)
    ? ['[', ']', value.map((one) => compactJson(one, deeper))]
    : ['{', '}', Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${compactJson(one, deeper)}`)];
  return `${open}\n${entries.map((entry) => `${deeper}${entry}`).join(',\n')}\n${indent}${close}`;
}

/** @param {unknown} value @returns {string} */
function oneLine(value) {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(oneLine).join(', ')}]`;
  return `{${Object.entries(value)
    .map(([key, one]) => `${JSON.stringify(key)}: ${oneLine(one)}`)
    .join(', ')}}`;
}
