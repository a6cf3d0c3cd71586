import { fork } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { GpuFindings } from './gpu-faults.js';

const PROBE_TIMEOUT_MS = 120_000;
const KEPT_LINES = 6;
const MAX_LINE_LENGTH = 300;

/** The device files of NVIDIA's driver, and of WSL's. */
export async function gpuDeviceFiles(): Promise<string[]> {
  const names = await readdir('/dev');
  return names.filter((name) => /^nvidia\d+$|^nvidiactl$|^dxg$/.test(name)).map((name) => `/dev/${name}`);
}

/**
 * Loads the engine in a process of its own and says what it found there.
 *
 * @param probeProgram the compiled `probe-gpu-main`
 * @throws Error when the engine does not load at all
 */
export async function lookForGpu(probeProgram: string, environment: NodeJS.ProcessEnv): Promise<GpuFindings> {
  const child = fork(probeProgram, [], {
    // At 1 the engine says why it uses no GPU; ours would hide that.
    env: { ...environment, TF_CPP_MIN_LOG_LEVEL: '1' },
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    timeout: PROBE_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const engineLines: string[] = [];
  createInterface({ input: child.stderr as Readable }).on('line', (line) => {
    if (line.trim() === '') return;
    engineLines.push(line.slice(0, MAX_LINE_LENGTH));
    if (engineLines.length > KEPT_LINES) engineLines.shift();
  });
  let found: Pick<GpuFindings, 'missingLibraries' | 'engineOnGpu'> | undefined;
  child.on('message', (message) => {
    found = message as typeof found;
  });
  const ending = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started (${error.message})`));
    child.once('close', (code, signal) => resolve(`ended with ${signal ?? `exit code ${code}`}`));
  });
  if (found === undefined) throw new Error(`The engine did not load: its probe ${ending}. ${engineLines.join(' | ')}`);
  return {
    ...found,
    deviceFiles: await gpuDeviceFiles(),
    visibleDevices: environment.CUDA_VISIBLE_DEVICES,
    engineLines,
  };
}
