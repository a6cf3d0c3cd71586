import { ProductError } from '@lorasmith/contracts';
import { CommanderError, Option, Command as Program } from 'commander';
import { ApiError, faultLines } from '../api-error.js';
import { createClient } from '../node-client.js';
import type { TextOutput } from '../text-output.js';
import { ADAPTER_COMMANDS } from './adapter-commands.js';
import { ALIAS_COMMANDS } from './alias-commands.js';
import { type Command, type CommandInput, type CommandOption, printableOutput } from './command.js';
import { COMPARE_COMMAND, COMPARISON_COMMANDS } from './comparison-commands.js';
import { DATASET_COMMANDS } from './dataset-commands.js';
import { DELIVERY_COMMANDS } from './delivery-commands.js';
import { IMPORT_OPENAI_COMMAND } from './import-openai-command.js';
import { JOB_COMMANDS } from './job-commands.js';
import { MODEL_COMMANDS } from './model-commands.js';
import { PROBE_COMMAND } from './probe-command.js';
import { KEY_COMMANDS, MACHINE_COMMANDS, WEBHOOK_COMMANDS } from './service-commands.js';
import { SWEEP_COMMAND, SWEEP_COMMANDS } from './sweep-commands.js';
import { TEXT_COMMANDS } from './text-commands.js';
import { TRAIN_COMMAND } from './train-command.js';

export interface CommandLineOptions {
  /** The arguments after `lora`. */
  args: string[];
  /** The version of this package. */
  version: string;
  /** Address of the api if `--url` is not given. */
  baseUrl: string;
  apiKey?: string | undefined;
  /** Key for servers other than the api: that of `lora probe`, and OpenAI's. */
  serverKey?: string | undefined;
  /** The address for `lora import-openai`. @defaultValue OpenAI's own */
  openaiUrl?: string | undefined;
  /** The variables of the environment about the Hugging Face hub, such as `HF_TOKEN`. @defaultValue none is set */
  hubEnvironment?: Readonly<Record<string, string | undefined>> | undefined;
  input: CommandInput;
  output: TextOutput;
  errorOutput: TextOutput;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
}

export const EXIT = { done: 0, failed: 1, misused: 2, interrupted: 130 } as const;

/** All commands, in the order of the help. */
const GROUPS: readonly CommandGroup[] = [
  { heading: 'Training', commands: [TRAIN_COMMAND, SWEEP_COMMAND, IMPORT_OPENAI_COMMAND] },
  { heading: 'Jobs', commands: JOB_COMMANDS },
  { heading: 'Sweeps', commands: SWEEP_COMMANDS },
  { heading: 'Datasets', commands: DATASET_COMMANDS },
  { heading: 'Adapters', commands: [...ADAPTER_COMMANDS, ...ALIAS_COMMANDS] },
  { heading: 'Comparisons', commands: [COMPARE_COMMAND, ...COMPARISON_COMMANDS] },
  { heading: 'Text', commands: TEXT_COMMANDS },
  { heading: 'Deliveries', commands: DELIVERY_COMMANDS },
  { heading: 'Base models', commands: MODEL_COMMANDS },
  { heading: 'Service', commands: [...MACHINE_COMMANDS, ...KEY_COMMANDS, ...WEBHOOK_COMMANDS, PROBE_COMMAND] },
];

/** Runs one command of `lora`; resolves with the exit code and never rejects. */
export async function runCommandLine(options: CommandLineOptions): Promise<number> {
  const { args, version, apiKey, signal } = options;
  const [output, errorOutput] = [options.output, options.errorOutput].map(printableOutput) as [TextOutput, TextOutput];
  const call = readArguments(args, { groups: GROUPS, version, output });
  if (call.kind === 'answered') return EXIT.done;
  if (call.kind === 'misused') {
    errorOutput.write(`${[call.fault, call.help].join('\n').trimEnd()}\n`);
    return EXIT.misused;
  }
  const { command, values, positionals, common } = call;
  try {
    const client = createClient({ baseUrl: common.url ?? options.baseUrl, apiKey });
    return await command.run({
      client,
      input: options.input,
      output,
      errorOutput,
      serverKey: options.serverKey,
      openaiUrl: options.openaiUrl,
      hubEnvironment: options.hubEnvironment ?? {},
      signal,
      json: common.json === true,
      values,
      positionals,
    });
  } catch (error) {
    if (signal.aborted) return EXIT.interrupted;
    errorOutput.write(`${errorText(error, apiKey)}\n`);
    return EXIT.failed;
  }
}

function errorText(error: unknown, apiKey: string | undefined): string {
  if (!(error instanceof ProductError)) return error instanceof Error ? error.message : String(error);
  const request = error instanceof ApiError && error.requestId !== null ? ` [request ${error.requestId}]` : '';
  const key = error.code === 'unauthorized' ? [`  ${keyAdvice(apiKey)}`] : [];
  return [`${error.code}: ${error.message}${request}`, ...faultLines(error.details), ...key].join('\n');
}

function keyAdvice(apiKey: string | undefined): string {
  return apiKey === undefined
    ? 'lora sends the key of the variable LORASMITH_API_KEY, which is not set: export LORASMITH_API_KEY=lsk_…'
    : 'lora has sent the key of the variable LORASMITH_API_KEY.';
}

/** The commands that are about the same things, under a heading of the help. */
interface CommandGroup {
  heading: string;
  commands: readonly Command[];
}

/** The meaning of the arguments. */
type Call =
  | { kind: 'run'; command: Command; values: Record<string, unknown>; positionals: string[]; common: CommonValues }
  /** The help or the version, which are printed. */
  | { kind: 'answered' }
  | { kind: 'misused'; fault: string; help: string };

interface CommonValues {
  url?: string;
  json?: boolean;
}

interface ReadArgumentsOptions {
  groups: readonly CommandGroup[];
  version: string;
  /** The output for help and version. */
  output: TextOutput;
}

/** The width of the help. */
const COLUMNS = 100;

/** Reads the arguments of `lora`. The options of a command may be before its name. */
function readArguments(given: readonly string[], options: ReadArgumentsOptions): Call {
  const { output, groups } = options;
  const { args, name } = commandFirst(given, groups);
  let call: Call = { kind: 'answered' };
  const program = programOf(options, args, (found) => {
    call = found;
  });
  if (args.length === 0) {
    output.write(program.helpInformation());
    return call;
  }
  try {
    program.parse(args, { from: 'user' });
    return call;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { kind: 'answered' };
    const [message = '', hint = ''] = error.message
      .replace(/^error: /, '')
      .replaceAll(/[<>()]/g, '')
      .split('\n');
    const fault = `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
    const advice = `Its options: ${['lora', name, '--help'].filter(Boolean).join(' ')}`;
    return { kind: 'misused', fault: [fault, hint, advice].filter(Boolean).join(' '), help: '' };
  }
}

/** The arguments with the words of their command first, before options that stand before them; and `help jobs` as `jobs --help`. */
function commandFirst(given: readonly string[], groups: readonly CommandGroup[]): { args: string[]; name: string } {
  if (given[0] === 'help') return { args: [...given.slice(1), '--help'], name: '' };
  const names = groups.flatMap(({ commands }) => commands.map(({ name }) => name));
  const at = (index: number) =>
    names.find((name) => name.split(' ').every((word, offset) => given[index + offset] === word));
  const first = given[0]?.startsWith('-') ? given.findIndex((_, index) => at(index) !== undefined) : 0;
  const name = at(Math.max(first, 0)) ?? '';
  if (first <= 0) return { args: [...given], name };
  const words = name.split(' ');
  return { args: [...words, ...given.slice(0, first), ...given.slice(first + words.length)], name };
}

function programOf(
  { groups, version, output }: ReadArgumentsOptions,
  args: readonly string[],
  onCall: (call: Call) => void,
): Program {
  const program = new Program('lora');
  program
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void output.write(text),
      // Errors are thrown, and printed by the caller.
      writeErr: () => {},
      outputError: () => {},
      getOutHelpWidth: () => COLUMNS,
      getErrHelpWidth: () => COLUMNS,
    })
    .configureHelp({
      showGlobalOptions: true,
      optionTerm: ({ flags }) => flags.replaceAll(/[<>]/g, ''),
      styleTitle: (title) => (title === 'Global Options:' ? 'Of every command:' : title),
      visibleGlobalOptions: (one) =>
        one === program ? [] : program.options.filter(({ long }) => long !== '--version'),
      commandUsage: (one) =>
        [fullNameOf(one), one.commands.length > 0 ? 'COMMAND' : argumentsOf(one), '[options]']
          .filter(Boolean)
          .join(' '),
      subcommandTerm: (one) => `${fullNameOf(one).replace(/^lora /, '')} ${argumentsOf(one)}`.trimEnd(),
      visibleCommands: (one) => leavesOf(one),
    })
    .option('--url <URL>', 'address of the api [LORASMITH_URL, or http://127.0.0.1:8080]')
    .option('--json', 'print the answer of the API as JSON')
    .helpOption('-h, --help', 'what a command does, and its options')
    .helpCommand(false)
    .version(version, '--version', 'print the version of lora')
    .addHelpText(
      'after',
      '\nLORASMITH_API_KEY is the key for the api, if it needs one.\nlora COMMAND --help lists the options of a command.',
    );
  refuseOther(program, `A command comes first: lora COMMAND ${args.join(' ')}`, onCall);
  for (const { heading, commands } of groups) {
    for (const command of commands) addCommand(program, command, heading, onCall);
  }
  return program;
}

function addCommand(program: Program, command: Command, heading: string, onCall: (call: Call) => void): void {
  const words = command.name.split(' ');
  const last = words.pop() ?? '';
  const parent = words.reduce((above, word) => {
    const known = above.commands.find((one) => one.name() === word);
    if (known !== undefined) return known;
    const made = above.command(word).helpGroup(`${heading}:`).helpCommand(false);
    refuseOther(made, `${fullNameOf(made)} needs one more word. There are:`, onCall);
    return made;
  }, program);
  const added = parent.command(last).helpGroup(`${heading}:`).description(command.summary);
  // The text of the command says how many there must be.
  added.argument('[arguments...]').allowExcessArguments();
  ARGUMENTS.set(added, command.positionals.join(' '));
  const options = new Map(Object.entries(command.options ?? {}).map(([name, one]) => [name, optionOf(name, one)]));
  for (const option of options.values()) added.addOption(option);
  const { help = [] } = command;
  if (help.length > 0) added.addHelpText('after', `\n${help.join('\n')}`);
  added.action((positionals: string[]) => {
    const given = added.opts();
    const values = Object.fromEntries(
      [...options].flatMap(([name, option]) => {
        const value: unknown = given[option.attributeName()];
        return value === undefined ? [] : [[name, value]];
      }),
    );
    const fault = positionalsFault(command, positionals);
    if (fault === null) onCall({ kind: 'run', command, values, positionals, common: program.opts() });
    else onCall({ kind: 'misused', fault, help: added.helpInformation() });
  });
}

/** The text of a command's arguments, which its help has without brackets. */
const ARGUMENTS = new WeakMap<Program, string>();

function argumentsOf(program: Program): string {
  return ARGUMENTS.get(program) ?? '';
}

function optionOf(name: string, { type, short, multiple, value, help, group }: CommandOption): Option {
  const flag = `${short === undefined ? '' : `-${short}, `}--${name}`;
  const word = value ?? name.toUpperCase();
  const option = new Option(type === 'boolean' ? flag : `${flag} <${word}>`, help ?? '');
  if (multiple) option.argParser((one: string, others: string[] | undefined) => [...(others ?? []), one]);
  return option.helpGroup(`${group ?? 'Options'}:`);
}

/**
 * Answers what is no command of a program, which has others.
 *
 * @param withoutWord - said if there is no word that could be one
 */
function refuseOther(program: Program, withoutWord: string, onCall: (call: Call) => void): void {
  program.argument('[words...]').allowUnknownOption().allowExcessArguments();
  program.action(() => {
    const [word = '-'] = program.args;
    const fault = word.startsWith('-')
      ? withoutWord
      : `There is no command "${fullNameOf(program)} ${word}". There are:`;
    onCall({ kind: 'misused', fault, help: program.helpInformation() });
  });
}

/** The commands at the ends of the tree: those that do something. */
function leavesOf(program: Program): Program[] {
  return program.commands.flatMap((one) => (one.commands.length > 0 ? leavesOf(one) : [one]));
}

function fullNameOf(program: Program): string {
  return program.parent === null ? program.name() : `${fullNameOf(program.parent)} ${program.name()}`;
}

/** The fault in the number of arguments; null if there is none. */
function positionalsFault({ name, positionals }: Command, given: readonly string[]): string | null {
  const missing = positionals.slice(given.length);
  if (missing.length > 0) return `lora ${name} needs ${missing.join(' and ')}.`;
  const excess = given.slice(positionals.length);
  if (excess.length === 0) return null;
  const taken = positionals.length === 0 ? 'takes no argument' : `takes only ${positionals.join(' and ')}`;
  return `lora ${name} ${taken}; what is ${excess.map((text) => JSON.stringify(text)).join(' ')}?`;
}
