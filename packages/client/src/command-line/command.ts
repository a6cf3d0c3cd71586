import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { ProductError } from '@lorasmith/contracts';
import type { Client } from '../node-client.js';
import type { DownloadProgress } from '../resumable-download.js';
import { bytesText, printable, printableJson, redraw, type TextOutput } from '../text-output.js';

/** The input in which answers are typed. */
export type CommandInput = NodeJS.ReadableStream & { isTTY?: boolean };

export interface CommandContext {
  client: Client;
  /** Answers to questions; asked only if it is a terminal. */
  input: CommandInput;
  output: TextOutput;
  /** Output for questions and errors, so that `output` has only the answer. */
  errorOutput: TextOutput;
  /** The key for servers other than the api. */
  serverKey?: string | undefined;
  /** The address of OpenAI's API, or of a service with its wire, if it is not OpenAI's own. */
  openaiUrl?: string | undefined;
  /** The variables of the environment about the Hugging Face hub. */
  hubEnvironment: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  /** Print the answers of the API as JSON instead of text. */
  json: boolean;
  values: Record<string, unknown>;
  positionals: string[];
}

/** An option: `--NAME`, or with a value `--NAME VALUE`. */
export interface CommandOption {
  type: 'string' | 'boolean';
  /** One letter, for `-o`. */
  short?: string;
  /** True if it may be repeated; its value is then a list. */
  multiple?: boolean;
  /** The word for its value in the help. @defaultValue its name in capitals */
  value?: string;
  help?: string;
  /** The heading under which the help has it. @defaultValue Options */
  group?: string;
}

export type CommandOptions = Readonly<Record<string, CommandOption>>;

export interface Command {
  /** The name, for example `jobs watch`. */
  name: string;
  /** Names of the positional arguments, all required. */
  positionals: string[];
  summary: string;
  options?: CommandOptions;
  /** Lines below the options, about what they do not say. */
  help?: string[];
  /** Resolves with the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** Prints an answer of the API: as JSON with `--json`, otherwise as `text`. */
export function print({ output, json }: CommandContext, answer: unknown, text: string): number {
  output.write(`${json ? printableJson(answer, 2) : text}\n`);
  return 0;
}

export const PAGE_OPTIONS = {
  limit: { type: 'string', value: 'N', help: 'at most so many' },
  after: { type: 'string', value: 'ID', help: 'the page after this one, which the end of a page names' },
} as const satisfies CommandOptions;

/** The option of the commands that follow a job to its end. */
export const WATCH_OPTION = { watch: { type: 'boolean', help: 'follow it to its end' } } as const;

/** The option that makes a call safe to repeat. */
export const IDEMPOTENCY_OPTION = {
  'idempotency-key': { type: 'string', value: 'KEY', help: 'makes the call safe to repeat' },
} as const;

/** The page that `--limit` and `--after` select. */
export function pageQueryOf(values: { limit?: string; after?: string }): { limit?: number; after?: string } {
  return {
    ...(values.limit === undefined ? {} : { limit: Number(values.limit) }),
    ...(values.after === undefined ? {} : { after: values.after }),
  };
}

/** The line under a list that says how to get the next page. */
export function moreText(page: { has_more: boolean; next: string | number | null }): string {
  return page.has_more ? `\nmore: --after ${page.next}` : '';
}

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

/** The same file and settings have the same key, so a command that is repeated after a crash finds its job. */
export function repeatKeyOf(command: 'train' | 'sweep', request: object): string {
  return `lora-${command}-${createHash('sha256')
    .update(JSON.stringify(sorted(request)))
    .digest('hex')}`;
}

/** The value with the keys of its objects in alphabetical order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, each]) => [key, sorted(each)]));
}

/** Aligns rows as columns, numbers to the right. */
export function textTable(header: string[], rows: (string | number)[][]): string {
  const cells = [header, ...rows.map((row) => row.map((cell) => printable(String(cell)).replaceAll(/[\n\t]/g, ' ')))];
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const isNumber = header.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  return cells
    .map((row) =>
      row
        .map((cell, column) => (isNumber[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** An output to which only printable text is written, whatever is in a name or an answer. A line is still redrawn. */
export function printableOutput(output: TextOutput): TextOutput {
  return {
    write: (text) => output.write(printable(text)),
    redraw: (text) => redraw(output, printable(text)),
    get isTTY() {
      return output.isTTY;
    },
    get columns() {
      return output.columns;
    },
  };
}

const REDRAW_INTERVAL_MS = 100;

/** Shows the progress of a download or an upload on a terminal, and nothing elsewhere. */
export function createTransferProgress(output: TextOutput, now: () => number = Date.now) {
  let drawnAt = Number.NEGATIVE_INFINITY;
  return {
    handle({ receivedBytes, totalBytes }: DownloadProgress): void {
      if (!output.isTTY || (now() - drawnAt < REDRAW_INTERVAL_MS && receivedBytes !== totalBytes)) return;
      drawnAt = now();
      const share = totalBytes ? `  ${Math.floor((100 * receivedBytes) / totalBytes)} %` : '';
      const total = totalBytes === null ? '' : ` of ${bytesText(totalBytes)}`;
      redraw(output, `${bytesText(receivedBytes)}${total}${share}`);
    },
    end(): void {
      if (output.isTTY && drawnAt !== Number.NEGATIVE_INFINITY) output.write('\n');
    },
  };
}
