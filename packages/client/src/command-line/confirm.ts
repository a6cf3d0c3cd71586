import { createInterface } from 'node:readline';
import { ProductError } from '@lorasmith/contracts';
import type { CommandContext } from './command.js';

/** Refuses a command that could not ask, unless it has `--yes`. @throws ProductError */
export function refuseWithoutTerminal({ values, input }: CommandContext, message: string): void {
  if (values.yes !== true && input.isTTY !== true) throw new ProductError('invalid_request', message, { param: 'yes' });
}

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
