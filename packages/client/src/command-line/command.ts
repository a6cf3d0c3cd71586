import type { Client } from '../node-client.js';
import { printableJson } from '../printable.js';
import type { TextOutput } from '../text-output.js';

/** Where answers are typed. */
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
