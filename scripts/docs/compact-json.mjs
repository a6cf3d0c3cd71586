/** Characters of a line. */
const WIDTH = 200;

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g;

/** @typedef {{ line: string, brackets?: [string, string], entries: [string, Node][] }} Node of JSON: its text in one line, and what it has, each after its name */

/**
 * JSON in which a value stands in one line if it fits: an entry of a table a line, where an indented one takes a line for each number.
 * Numbers and strings are written as they stand.
 *
 * @param {string} text of JSON
 * @returns {string}
 * @throws {SyntaxError} if it is not JSON
 */
export function compactJsonText(text) {
  JSON.parse(text);
  const tokens = text.match(TOKEN) ?? [];
  let next = 0;
  /** @returns {Node} */
  const node = () => {
    const first = /** @type {string} */ (tokens[next++]);
    if (first !== '{' && first !== '[') return { line: first, entries: [] };
    const last = first === '{' ? '}' : ']';
    /** @type {[string, Node][]} */
    const entries = [];
    while (tokens[next] !== last) {
      if (tokens[next] === ',') next++;
      const name = first === '{' ? `${tokens[next]}: ` : '';
      if (first === '{') next += 2;
      entries.push([name, node()]);
    }
    next++;
    const line = first + entries.map(([name, { line: one }]) => name + one).join(', ') + last;
    return { line, brackets: [first, last], entries };
  };
  return linesOf(node(), '');
}

/** @param {unknown} value of JSON @returns {string} as {@link compactJsonText} */
export function compactJson(value) {
  return compactJsonText(JSON.stringify(value));
}

/** @param {Node} node @param {string} indent @returns {string} */
function linesOf({ line, brackets, entries }, indent) {
  if (brackets === undefined || indent.length + line.length <= WIDTH) return line;
  const deeper = `${indent} `;
  const inside = entries.map(([name, one]) => `${deeper}${name}${linesOf(one, deeper)}`);
  return `${brackets[0]}\n${inside.join(',\n')}\n${indent}${brackets[1]}`;
}
