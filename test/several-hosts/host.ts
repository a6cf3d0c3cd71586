import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

export type Service = 'api' | 'registry' | 'worker';

/** Simulates a host: one compiled service with its own data folder and models folder. */
export interface Host {
  dataDir: string;
  /** The address that the service listens on; empty for a worker. */
  url: string;
  /** The last lines of its log. */
  log(): string;
  kill(signal: NodeJS.Signals): Promise<void>;
}

export interface HostOptions {
  service: Service;
  /** A new folder for the host. */
  folder: string;
  environment: Record<string, string>;
}

const KEPT_LINES = 60;
const LISTENING = { api: /listening at (http:\S+)/, registry: /listening at (http:\S+)/, worker: /ready for jobs/ };

/** Starts the service as it is deployed; resolves once it serves. @throws with its log when it ends before that */
export async function startHost({ service, folder, environment }: HostOptions): Promise<Host> {
  const program = fileURLToPath(new URL(`../../services/${service}/dist/main.js`, import.meta.url));
  await access(program).catch(() => {
    throw new Error(`${program} is not compiled: run "pnpm build" first`);
  });
  const dataDir = path.join(folder, 'data');
  const modelsDir = path.join(folder, 'models');
  await mkdir(dataDir, { recursive: true });
  await mkdir(modelsDir, { recursive: true });
  const child = spawn(process.execPath, [program], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH ?? '',
      TF_CPP_MIN_LOG_LEVEL: '2',
      API_PORT: '0',
      REGISTRY_PORT: '0',
      DATA_DIR: dataDir,
      MODELS_DIR: modelsDir,
      DEVICE: 'cpu',
      ...environment,
    },
  });
  const lines: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream as Readable).on('line', (line) => {
        lines.push(line);
        if (lines.length > KEPT_LINES) lines.shift();
        const found = LISTENING[service].exec(line);
        if (found !== null) resolve(found[1]?.replace(/["\\].*$/, '') ?? '');
      });
    }
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the ${service} ended with ${code}:\n${lines.join('\n')}`)));
  });
  return { dataDir, url, log: () => lines.join('\n'), kill: (signal) => end(child, signal) };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}
