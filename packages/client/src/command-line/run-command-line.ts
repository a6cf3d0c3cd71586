import { ProductError } from '@lorasmith/contracts';
import { ApiError } from '../api-error.js';
import { faultLines } from '../fault-lines.js';
import { createClient } from '../node-client.js';
import type { TextOutput } from '../text-output.js';
import { ADAPTER_COMMANDS } from './adapter-commands.js';
import type { CommandInput } from './command.js';
import { DATASET_COMMANDS } from './dataset-commands.js';
import { JOB_COMMANDS } from './job-commands.js';
import { MODEL_COMMANDS } from './model-commands.js';
import { printableOutput } from './output.js';
import { PROBE_COMMAND } from './probe-command.js';
import { type CommandGroup, readArguments } from './program.js';
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
  /** Key for the server of `lora probe`. */
  serverKey?: string | undefined;
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
  { heading: 'Training', commands: [TRAIN_COMMAND, SWEEP_COMMAND] },
  { heading: 'Jobs', commands: JOB_COMMANDS },
  { heading: 'Sweeps', commands: SWEEP_COMMANDS },
  { heading: 'Datasets', commands: DATASET_COMMANDS },
  { heading: 'Adapters', commands: ADAPTER_COMMANDS },
  { heading: 'Text', commands: TEXT_COMMANDS },
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
