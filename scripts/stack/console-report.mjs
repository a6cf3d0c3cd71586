/** The names of the log levels that are shown on the terminal. Lower levels appear only in the log files. */
const SHOWN_LEVELS = new Map([
  ['warn', 'warning'],
  ['error', 'error'],
  ['fatal', 'error'],
]);
const LONGEST_MESSAGE = 300;

/**
 * Prints short lines to a terminal: each change of a part's state, and the warnings and errors that a part logs.
 *
 * @param {NodeJS.WritableStream} output
 * @returns {(event: import('./start-stack.mjs').StackEvent) => void}
 */
export function consoleReport(output) {
  return (event) => {
    const text = 'state' in event ? event.state : warningIn(event.line);
    if (text) output.write(`${event.part.padEnd(9)}${text}\n`);
  };
}

/** @param {string} line @returns {string | undefined} the message of a logged warning or error, or a line that is not JSON */
function warningIn(line) {
  let entry;
  try {
    entry = JSON.parse(line);
  } catch {
    return line.slice(0, LONGEST_MESSAGE);
  }
  const level = SHOWN_LEVELS.get(entry?.level);
  if (level === undefined) return undefined;
  const detail =
    typeof entry.err?.message === 'string' && entry.err.message !== entry.msg ? `: ${entry.err.message}` : '';
  return `${level}: ${entry.msg ?? ''}${detail}`.slice(0, LONGEST_MESSAGE);
}
