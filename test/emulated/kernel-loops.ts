import { execFile } from 'node:child_process';
import { chmod } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { NVDISASM_WHEELS } from '../../scripts/setup/pinned-wheels.mjs';
import { unpackWheel } from '../../scripts/setup/unpack-wheel.mjs';

/** Instructions that each warp executes in a step of the loop in which a kernel uses tensor cores. */
export interface KernelLoop {
  /** Products of fragments [16, 16] and [16, 8]. */
  mma: number;
  /** Loads of fragments from shared memory, 512 bytes each. */
  ldmatrix: number;
  /** Instructions of the shortest way through the loop: whatever a branch may leave out is left out. */
  instructions: number;
}

interface Instruction {
  name: string;
  /** The index of the instruction that a branch leads to; null for other instructions. */
  target: number | null;
  isConditional: boolean;
}

/**
 * @returns the disassembler of machine code
 * @throws {SetupError} when it cannot be downloaded
 */
export async function disassembler(env: NodeJS.ProcessEnv): Promise<string> {
  const wheel = NVDISASM_WHEELS[process.arch];
  if (!wheel) throw new Error(`there is no pinned nvdisasm for ${process.arch}`);
  const { folder } = await unpackWheel(wheel, { cache: cacheDir(env), env, progress: { update() {} } });
  const program = path.join(folder, wheel.members[0] ?? '');
  await chmod(program, 0o755);
  return program;
}

/** @returns the loop of each kernel of a file that uses tensor cores in one, by the kernel's name */
export async function loopsOf(cubin: string, program: string): Promise<Map<string, KernelLoop>> {
  const { stdout } = await promisify(execFile)(program, ['-c', cubin], { maxBuffer: 64 * 2 ** 20 });
  const loops = new Map<string, KernelLoop>();
  for (const part of stdout.split(/^\.text\.(?=\w+:$)/m).slice(1)) {
    const loop = loopWithTensorCores(instructionsOf(part));
    if (loop !== null) loops.set(part.slice(0, part.indexOf(':')), loop);
  }
  return loops;
}

/** @param text a kernel, from its name on */
function instructionsOf(text: string): Instruction[] {
  const labels = new Map<string, number>();
  const found: (Instruction & { label: string | undefined })[] = [];
  for (const line of text.split('\n')) {
    const label = /^(\.L_\w+):/.exec(line)?.[1];
    if (label !== undefined) labels.set(label, found.length);
    const [, predicate, name, operands = ''] = /^\s+\/\*[0-9a-f]{4,}\*\/\s+(@\S+\s+)?([A-Z]\S*)(.*)/.exec(line) ?? [];
    if (name === undefined) continue;
    const to = name.startsWith('BRA') ? /`\((\.L_\w+)\)/.exec(operands)?.[1] : undefined;
    // A branch may have its condition among its operands, too.
    const isConditional = predicate !== undefined || /^\s*!?U?P\d/.test(operands) || name !== 'BRA';
    found.push({ name, target: null, isConditional, label: to });
  }
  return found.map(({ label, ...instruction }) => ({
    ...instruction,
    target: label === undefined ? null : (labels.get(label) ?? null),
  }));
}

/** The loop with the most products; of several, the shortest. */
function loopWithTensorCores(instructions: Instruction[]): KernelLoop | null {
  let best: KernelLoop | null = null;
  let bestSize = 0;
  for (const [end, { target: start }] of instructions.entries()) {
    if (start === null || start > end) continue;
    const body = instructions.slice(start, end + 1);
    const count = (name: string) => body.filter((instruction) => instruction.name.startsWith(name)).length;
    const mma = count('HMMA');
    if (mma === 0 || (best !== null && (mma < best.mma || (mma === best.mma && body.length >= bestSize)))) continue;
    best = { mma, ldmatrix: count('LDSM'), instructions: shortestWay(body, start) };
    bestSize = body.length;
  }
  return best;
}

/** @returns instructions on the shortest way from the first to the last one of a loop's */
function shortestWay(body: Instruction[], start: number): number {
  const way = body.map(() => Number.POSITIVE_INFINITY);
  way[0] = 1;
  const reach = (at: number, length: number) => {
    if (at < body.length) way[at] = Math.min(way[at] ?? length, length);
  };
  for (const [at, { name, target, isConditional }] of body.entries()) {
    const next = (way[at] ?? 0) + 1;
    if (target !== null && target - start > at) reach(target - start, next);
    const ends = (name.startsWith('BRA') && !isConditional) || name === 'EXIT';
    if (!ends) reach(at + 1, next);
  }
  return way.at(-1) ?? 0;
}
