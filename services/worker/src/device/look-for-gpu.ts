import { readdir } from 'node:fs/promises';
import { askChild } from '@lorasmith/child-processes';
import type { GpuFindings } from './gpu-faults.js';

const PROBE_TIMEOUT_MS = 120_000;
const KEPT_LINES = 6;
const MAX_LINE_LENGTH = 300;

/** The findings of the probe. */
export type EngineFindings = Pick<GpuFindings, 'missingLibraries' | 'engineOnGpu'>;

/** The device files of NVIDIA's driver, and of WSL's. */
export async function gpuDeviceFiles(): Promise<string[]> {
  const names = await readdir('/dev');
  return names.filter((name) => /^nvidia\d+$|^nvidiactl$|^dxg$/.test(name)).map((name) => `/dev/${name}`);
}

/**
 * Loads the engine in a process of its own and returns what it found there.
 *
 * @param probeProgram the compiled `probe-gpu-main`
 * @throws Error when the engine cannot be loaded
 */
export async function lookForGpu(probeProgram: string, environment: NodeJS.ProcessEnv): Promise<GpuFindings> {
  const engineLines: string[] = [];
  const found = await askChild<EngineFindings>(
    // At 1 the engine logs why it uses no GPU; the trainers' own level would hide that.
    { file: probeProgram, environment: { ...environment, TF_CPP_MIN_LOG_LEVEL: '1' } },
    {},
    {
      work: 'Looking for a GPU',
      timeoutMs: PROBE_TIMEOUT_MS,
      crashed: (how) => new Error(`Its probe ${how}.`),
      onLine(line) {
        if (line.trim() === '') return;
        engineLines.push(line.slice(0, MAX_LINE_LENGTH));
        if (engineLines.length > KEPT_LINES) engineLines.shift();
      },
    },
  ).catch((cause: Error) => {
    throw new Error(`The engine cannot be loaded. ${cause.message} ${engineLines.join(' | ')}`, { cause });
  });
  return {
    ...found,
    deviceFiles: await gpuDeviceFiles(),
    visibleDevices: environment.CUDA_VISIBLE_DEVICES,
    engineLines,
  };
}
