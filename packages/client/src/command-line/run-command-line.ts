import { parseArgs } from 'node:util';
import { ProductError } from '@lorasmith/contracts';
import { ApiError } from '../api-error.js';
import { faultLines } from '../fault-lines.js';
import { createClient } from '../node-client.js';
import type { TextOutput } from '../text-output.js';
import { ADAPTER_COMMANDS } from './adapter-commands.js';
import type { Command, CommandInput } from './command.js';
import { DATASET_COMMANDS } from './dataset-commands.js';
import { JOB_COMMANDS } from './job-commands.js';
import { KEY_COMMANDS } from './key-commands.js';
import { MACHINE_COMMANDS } from './machine-commands.js';
import { MODEL_COMMANDS } from './model-commands.js';
import { printableOutput } from './printable-output.js';
import { PROBE_COMMAND } from './probe-command.js';
import { SWEEP_COMMANDS } from './sweep-commands.js';
import { TEXT_COMMANDS } from './text-commands.js';
import { TRAIN_COMMAND } from './train-command.js';
import { WEBHOOK_COMMANDS } from './webhook-commands.js';

export interface CommandLineOptions {
  /** The arguments after `lora`. */
  args: string[];
  /** The version of this package. */
  version: string;
  /** Address of the api if `--url` is not given. */
  baseUrl: string;
  apiKey?: string | undefined;
  /** Key for the server of `lora probe`. */
  serverKey?: string | undefined;
  input: CommandInput;
  output: TextOutput;
  errorOutput: TextOutput;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
}

export const EXIT = { done: 0, failed: 1, misused: 2, interrupted: 130 } as const;

const COMMANDS: readonly Command[] = [
  TRAIN_COMMAND,
  ...SWEEP_COMMANDS,
  ...MODEL_COMMANDS,
  ...MACHINE_COMMANDS,
  ...DATASET_COMMANDS,
  ...JOB_COMMANDS,
  ...ADAPTER_COMMANDS,
  ...TEXT_COMMANDS,
  ...KEY_COMMANDS,
  ...WEBHOOK_COMMANDS,
  PROBE_COMMAND,
];
const COMMON_OPTIONS = {
  url: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** Runs one command of `lora`; resolves with the exit code and never rejects. */
export async function runCommandLine(options: CommandLineOptions): Promise<number> {
  const { args, signal } = options;
  const [output, errorOutput] = [options.output, options.errorOutput].map(printableOutput) as [TextOutput, TextOutput];
  const misused = (...lines: string[]) => {
    errorOutput.write(`${lines.join('\n').trimEnd()}\n`);
    return EXIT.misused;
  };
  const command = commandOf(args);
  if (command === undefined) {
    const words = wordsOf(args);
    const commands = usage(relatedTo(words));
    if (args.length === 0 || args.includes('--help') || args.includes('-h')) output.write(commands);
    else if (words.length > 0) return misused(unknownCommandText(words), '', commands);
    else if (args.includes('--version')) output.write(`${options.version}\n`);
    else return misused(`A command comes first: lora COMMAND ${args.join(' ')}`, '', commands);
    return EXIT.done;
  }
  try {
    const { values, positionals } = parse(command, args);
    if (values.help) {
      output.write(usageOf(command));
      return EXIT.done;
    }
    const fault = positionalsFault(command, positionals);
    if (fault !== null) return misused(fault, usageOf(command));
    const client = createClient({ baseUrl: values.url ?? options.baseUrl, apiKey: options.apiKey });
    return await command.run({
      client,
      input: options.input,
      output,
      errorOutput,
      serverKey: options.serverKey,
      signal,
      json: values.json === true,
      values,
      positionals,
    });
  } catch (error) {
    if (signal.aborted) return EXIT.interrupted;
    if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')) {
      // Node goes on with how an argument may begin with "-".
      const [fault = ''] = (error as Error).message.split(/\. To specify/);
      return misused(`${fault}${fault.endsWith('.') ? '' : '.'} Its options: lora ${command.name} --help`);
    }
    errorOutput.write(`${errorText(error)}\n`);
    return EXIT.failed;
  }
}

/** The longest command whose words `args` starts with. */
function commandOf(args: string[]): Command | undefined {
  const fits = ({ name }: Command) => name.split(' ').every((word, index) => args[index] === word);
  return COMMANDS.filter(fits).sort((one, other) => other.name.length - one.name.length)[0];
}

/** The arguments before the first option. */
function wordsOf(args: string[]): string[] {
  const option = args.findIndex((arg) => arg.startsWith('-'));
  return option < 0 ? args : args.slice(0, option);
}

/** The commands with the same first word, `lora jobs …`; all of them if there is none. */
function relatedTo([first]: string[]): readonly Command[] {
  const related = COMMANDS.filter(({ name }) => name.split(' ')[0] === first);
  return related.length === 0 ? COMMANDS : related;
}

function unknownCommandText(words: string[]): string {
  if (words.length === 1 && relatedTo(words) !== COMMANDS) return `lora ${words[0]} needs one more word. There are:`;
  return `There is no command "lora ${words.slice(0, 2).join(' ')}". There are:`;
}

/** The fault in the number of arguments; null if there is none. */
function positionalsFault({ name, positionals }: Command, given: string[]): string | null {
  const missing = positionals.slice(given.length);
  if (missing.length > 0) return `lora ${name} needs ${missing.join(' and ')}.`;
  const excess = given.slice(positionals.length);
  if (excess.length === 0) return null;
  const taken = positionals.length === 0 ? 'takes no argument' : `takes only ${positionals.join(' and ')}`;
  return `lora ${name} ${taken}; what is ${excess.map((text) => JSON.stringify(text)).join(' ')}?`;
}

function parse(command: Command, args: string[]) {
  const { values, positionals } = parseArgs({
    args: args.slice(command.name.split(' ').length),
    options: { ...command.options, ...COMMON_OPTIONS },
    allowPositionals: true,
    strict: true,
  });
  return { values: values as Record<string, unknown> & { url?: string; json?: boolean; help?: boolean }, positionals };
}

function errorText(error: unknown): string {
  if (!(error instanceof ProductError)) return error instanceof Error ? error.message : String(error);
  const request = error instanceof ApiError && error.requestId !== null ? ` [request ${error.requestId}]` : '';
  return [`${error.code}: ${error.message}${request}`, ...faultLines(error.details)].join('\n');
}

function usage(commands: readonly Command[]): string {
  const lines = commands.map((command) => `  lora ${signatureOf(command).padEnd(28)} ${command.summary}`);
  return [
    'Usage: lora COMMAND [options]',
    '',
    ...lines,
    '',
    '  --url URL    address of the api [LORASMITH_URL, or http://127.0.0.1:8080]; LORASMITH_API_KEY is its key',
    '  --json       print the answer of the API as JSON',
    '  --help       after a command: list its options',
    '  --version    print the version of lora',
    '',
  ].join('\n');
}

function usageOf(command: Command): string {
  const options = (command.help ?? []).map((line) => `  ${line}`);
  return [`Usage: lora ${signatureOf(command)} [options]`, command.summary, ...options, ''].join('\n');
}

function signatureOf({ name, positionals }: Command): string {
  return [name, ...positionals].join(' ');
}
