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
