/**
 * @typedef {object} Progress
 * @property {(text: string) => void} update shows the progress of the step; may be called often
 *
 * @typedef {object} Step
 * @property {string} name a few words, shown before the step's result and in its failure
 * @property {(progress: Progress) => Promise<string>} run performs the step unless it is already done, and returns one line about it
 *
 * @typedef {Step | { atOnce: Step[][] }} Stage a step, or rows of steps at once, those of a row one after the other
 */

/** The time between two updates without a terminal, where each is a line in a log. */
const LINE_INTERVAL_MS = 5_000;

/**
 * Runs set-up steps one stage after the other and reports each of them.
 *
 * @param {Stage[]} stages
 * @param {{ output?: NodeJS.WritableStream & { isTTY?: boolean }, now?: () => number }} [options] `output` defaults to
 *   standard error, so that standard output belongs to the command after set-up
 * @throws {SetupError} the first failure, its message naming the step, once the concurrent rows have ended; later steps do not run
 */
export async function runSteps(stages, { output = process.stderr, now = Date.now } = {}) {
  const rowsOf = (/** @type {Stage} */ stage) => ('atOnce' in stage ? stage.atOnce : [[stage]]);
  const steps = stages.flatMap((stage) => rowsOf(stage).flat());
  const runRow = async (/** @type {Step[]} */ row) => {
    for (const step of row) await runStep(step, `[${steps.indexOf(step) + 1}/${steps.length}] ${step.name}`);
  };
  const runStep = async (/** @type {Step} */ step, /** @type {string} */ label) => {
    const startedAt = now();
    try {
      const result = await step.run(createProgress(label, output, now));
      const seconds = (now() - startedAt) / 1000;
      clearLine(output);
      output.write(`${label}: ${result}${seconds >= 1 ? ` (${seconds.toFixed(0)} s)` : ''}\n`);
    } catch (error) {
      clearLine(output);
      throw failureOf(step.name, error);
    }
  };
  for (const stage of stages) {
    const rows = await Promise.allSettled(rowsOf(stage).map(runRow));
    for (const row of rows) if (row.status === 'rejected') throw row.reason;
  }
}

/**
 * The text shown for a failed set-up: the last output of the failed command, the step, the reason and the remedy.
 *
 * @param {unknown} error
 */
export function describeFailure(error) {
  if (!(error instanceof SetupError)) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  const output = error.output ? `\n${error.output.trimEnd()}\n` : '';
  return `${output}\n${error.message}\nWhat to do: ${error.remedy}`;
}

/** @param {string} stepName @param {unknown} error */
function failureOf(stepName, error) {
  const why = error instanceof Error ? error.message : String(error);
  const remedy = error instanceof SetupError ? error.remedy : 'this failure is unexpected; please report it as a bug.';
  const output = error instanceof SetupError ? error.output : error instanceof Error ? (error.stack ?? '') : '';
  return new SetupError(`Set-up failed at the step "${stepName}": ${why}`, remedy, { cause: error, output });
}

/** @param {string} label @param {NodeJS.WritableStream & { isTTY?: boolean }} output @param {() => number} now */
function createProgress(label, output, now) {
  let lastLineAt = Number.NEGATIVE_INFINITY;
  return {
    /** @param {string} text */
    update(text) {
      if (output.isTTY) {
        clearLine(output);
        output.write(`${label}: ${text}`);
      } else if (now() - lastLineAt >= LINE_INTERVAL_MS) {
        lastLineAt = now();
        output.write(`${label}: ${text}\n`);
      }
    },
  };
}

/** @param {NodeJS.WritableStream & { isTTY?: boolean }} output */
function clearLine(output) {
  if (output.isTTY) output.write('\r\x1b[2K');
}

/**
 * Thrown by a set-up step that cannot continue, with the reason and a remedy. {@link runSteps} adds the name of the step.
 * Set-up runs before any package is installed, so it cannot use the services' error class.
 */
export class SetupError extends Error {
  /**
   * @param {string} why the reason, one sentence
   * @param {string} remedy what to do, one or more sentences
   * @param {{ cause?: unknown, output?: string }} [details] `output`: the last lines that a failed command wrote
   */
  constructor(why, remedy, details = {}) {
    super(why, { cause: details.cause });
    this.name = 'SetupError';
    this.remedy = remedy;
    this.output = details.output ?? '';
  }
}
