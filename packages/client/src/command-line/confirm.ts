import { createInterface } from 'node:readline';
import type { CommandContext } from './command.js';

/** Asks on the terminal. The end of the input is a no. */
export async function confirm({ input, errorOutput, signal }: CommandContext, question: string): Promise<boolean> {
  errorOutput.write(question);
  const lines = createInterface({ input, signal, terminal: false });
  try {
    for await (const line of lines) return /^\s*(y|yes)?\s*$/i.test(line);
    signal.throwIfAborted();
    errorOutput.write('\n');
    return false;
  } finally {
    // Otherwise the process would wait for more input.
    lines.close();
  }
}
