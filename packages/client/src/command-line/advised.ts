import type { CommandContext } from './command.js';

/** Runs `work`; if it is interrupted or fails, says how to go on. */
export async function advised<Result>(
  { errorOutput }: CommandContext,
  advice: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    errorOutput.write(`\n${advice}\n`);
    throw error;
  }
}
