#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { EXIT, runCommandLine } from './command-line/run-command-line.js';

const interruption = new AbortController();
process.once('SIGINT', () => interruption.abort());
process.once('SIGTERM', () => interruption.abort());
// `lora jobs list | head` closes the pipe early. That is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed),
);

/** The description of the package, next to `dist` where it is compiled, and where it is packed. */
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

process.exitCode = await runCommandLine({
  args: process.argv.slice(2),
  version,
  baseUrl: process.env.LORASMITH_URL ?? 'http://127.0.0.1:8080',
  // Some tools set an empty variable. It means no key.
  apiKey: process.env.LORASMITH_API_KEY || undefined,
  serverKey: process.env.OPENAI_API_KEY || undefined,
  openaiUrl: process.env.OPENAI_BASE_URL || undefined,
  hubEnvironment: process.env,
  input: process.stdin,
  output: process.stdout,
  errorOutput: process.stderr,
  signal: interruption.signal,
});
