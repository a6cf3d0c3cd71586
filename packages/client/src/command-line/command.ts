import type { ParseArgsConfig } from 'node:util';
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
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  /** Print the answers of the API as JSON instead of text. */
  json: boolean;
  values: Record<string, unknown>;
  positionals: string[];
}

export interface Command {
  /** The name, for example `jobs watch`. */
  name: string;
  /** Names of the positional arguments, all required. */
  positionals: string[];
  summary: string;
  options?: ParseArgsConfig['options'];
  /** Help lines for options that their names do not explain. */
  help?: string[];
  /** Resolves with the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** Prints an answer of the API: as JSON with `--json`, otherwise as `text`. */
export function print({ output, json }: CommandContext, answer: unknown, text: string): number {
  output.write(`${json ? printableJson(answer, 2) : text}\n`);
  return 0;
}

export const PAGE_OPTIONS = { limit: { type: 'string' }, after: { type: 'string' } } as const;

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
