/**
 * Thrown by a set-up step that cannot continue: the reason, and what the reader should do. The step's own name is
 * added by {@link runSteps}. Set-up runs before any package is installed, so this is not the services' error class.
 */
export class SetupError extends Error {
  /**
   * @param {string} why what went wrong, one sentence
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
