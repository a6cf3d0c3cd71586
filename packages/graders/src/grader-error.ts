/** A fault in the settings of a grader. */
export class GraderError extends Error {
  /** The setting, as a path from the grader: `graders.right.pattern`. */
  readonly param: string;

  constructor(param: string, message: string) {
    super(message);
    this.name = 'GraderError';
    this.param = param;
  }

  /** The same fault, of a grader within another. */
  within(path: string): GraderError {
    return new GraderError(`${path}.${this.param}`, this.message);
  }
}
