/** EX_CONFIG of sysexits.h: starting again will not help, somebody must change something first. */
const EXIT_CODE = 78;

/** Something without which a service does not start; its message is one line that says what to do. */
export class StartUpRefusal extends Error {}

/** Does the work, or tells its refusal on standard error and ends the process with exit code 78. */
export async function orExit<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof StartUpRefusal)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(EXIT_CODE);
  }
}
