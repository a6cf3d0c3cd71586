import { Readable } from 'node:stream';
import { runCommandLine } from '../src/command-line/run-command-line.js';
import { type Answer, serve } from './http-server.js';

/** Runs `lora` with these arguments on a server that gives these answers. */
export async function lora(args: string[], ...answers: Answer[]) {
  const server = await serve(...answers);
  const written = { output: '', errorOutput: '' };
  const exitCode = await runCommandLine({
    args,
    version: '1.2.3',
    baseUrl: server.baseUrl,
    input: Readable.from([]),
    output: { write: (text: string) => (written.output += text) },
    errorOutput: { write: (text: string) => (written.errorOutput += text) },
    signal: new AbortController().signal,
  });
  return { exitCode, ...written, requests: server.requests };
}
