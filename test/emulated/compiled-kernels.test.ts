import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  ARCHITECTURES,
  CUBIN_ARCHITECTURES,
  compiledKernels,
  compileKernel,
  KERNELS_KEY_FILE,
  kernelExtension,
  keyOfKernels,
  nvrtcLibrary,
  PTX_ARCHITECTURE,
} from '../../scripts/setup/cuda-kernels.mjs';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { BUILD_DIR } from '../../scripts/setup/native-build.mjs';
import { describeFailure, SetupError } from '../../scripts/setup/run-steps.mjs';
import limits from './cuda-kernel-limits.json' with { type: 'json' };
import { disassembler, type KernelLoop, loopsOf } from './kernel-loops.js';

// The kernels as NVRTC compiled them for every architecture: `npm test` has done it; after a change,
// `node scripts/setup/cuda-kernels.mjs` does.

interface Resources {
  registers: number;
  /** Shared memory that the kernel declares; what its launch adds is not in it. */
  sharedBytes: number;
  /** Written to and read from local memory because the registers did not suffice. */
  spillBytes: number;
  /** Counts of the loop, for attention in bfloat16. */
  loop?: KernelLoop;
}
/** The greatest values on any architecture. `spillBytes`: by architecture; 0 for those that are not named. */
interface Limits {
  registers: number;
  sharedBytes: number;
  spillBytes?: Record<string, number>;
  loop?: KernelLoop;
}

const folderOf = (architecture: string) => path.join(BUILD_DIR, 'cuda', architecture);
const kernels = await compiledKernels(ARCHITECTURES);
const fileNames = [...new Set(kernels.map(({ name }) => name))];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-kernels-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A module as the driver gets it. */
async function moduleOf(name: string, architecture: string): Promise<Buffer> {
  return gunzipSync(await readFile(path.join(folderOf(architecture), `${name}.${kernelExtension(architecture)}.gz`)));
}

test.each(ARCHITECTURES)('every kernel file is compiled for %s, from the sources as they are', async (architecture) => {
  expect(fileNames.length).toBeGreaterThan(0);
  const keyFile = path.join(folderOf(architecture), KERNELS_KEY_FILE);
  expect(existsSync(keyFile), `${keyFile} exists (node scripts/setup/cuda-kernels.mjs)`).toBe(true);
  const expected = keyOfKernels(kernels.filter((kernel) => kernel.architecture === architecture));
  expect(await readFile(keyFile, 'utf8')).toBe(expected);
  for (const name of fileNames) {
    expect((await moduleOf(name, architecture)).length, name).toBeGreaterThan(0);
  }
});

const LIMITED =
  'no kernel uses more registers, shared memory or instructions of its loop than its limit, and spills only where that is known';
test(LIMITED, async () => {
  const found = new Map<string, Limits>();
  const beyond: string[] = [];
  for (const architecture of CUBIN_ARCHITECTURES) {
    for (const name of fileNames) {
      for (const [kernel, used] of await resourcesOf(name, architecture)) {
        const limit: Limits | undefined = (limits as Record<string, Limits>)[kernel];
        const allowedSpill = limit?.spillBytes?.[architecture] ?? 0;
        const isWithin =
          limit !== undefined &&
          used.registers <= limit.registers &&
          used.sharedBytes <= limit.sharedBytes &&
          isLoopWithin(used.loop, limit.loop);
        if (!isWithin) {
          beyond.push(`${kernel} on ${architecture}: ${JSON.stringify(used)}`);
        } else if (used.spillBytes > allowedSpill) {
          beyond.push(`${kernel} on ${architecture} spills ${used.spillBytes} bytes; allowed are ${allowedSpill}`);
        }
        const before = found.get(kernel) ?? { registers: 0, sharedBytes: 0 };
        const loop = greatestLoop(before.loop, used.loop);
        found.set(kernel, {
          registers: Math.max(before.registers, used.registers),
          sharedBytes: Math.max(before.sharedBytes, used.sharedBytes),
          ...(used.spillBytes > 0 || before.spillBytes !== undefined
            ? { spillBytes: { ...before.spillBytes, ...(used.spillBytes > 0 && { [architecture]: used.spillBytes }) } }
            : {}),
          ...(loop && { loop }),
        });
      }
    }
  }
  const lines = [...found].map(([kernel, used]) => `  ${JSON.stringify(kernel)}: ${JSON.stringify(used)}`);
  expect(beyond, `limits in test/emulated/cuda-kernel-limits.json; now used:\n${lines.sort().join(',\n')}\n`).toEqual(
    [],
  );
  const gone = Object.keys(limits).filter((kernel) => !found.has(kernel));
  expect(gone, 'kernels with a limit that do not exist').toEqual([]);
});

test('the intermediate code has the same kernels, and no kernel adds atomically', async () => {
  const names: string[] = [];
  for (const name of fileNames) {
    const ptx = (await moduleOf(name, PTX_ARCHITECTURE)).toString();
    const entries = [...ptx.matchAll(/^\.visible \.entry (\w+)\(/gm)].map(([, entry = '']) => entry);
    expect(entries.length, name).toBeGreaterThan(0);
    const compiled = [...(await resourcesOf(name, 'sm_80')).keys()];
    expect(entries.sort(), name).toEqual(compiled.sort());
    // Sums in the order of arrival would make two runs of a job differ.
    expect(ptx.match(/^.*\b(atom|red)\.\w.*$/gm), name).toBeNull();
    names.push(...entries);
  }
  expect(names.length, 'names are unique').toBe(new Set(names).size);
});

test('the compiler has no warnings', async () => {
  for (const { name, architecture } of kernels) {
    const log = await readFile(path.join(folderOf(architecture), `${name}.log`), 'utf8');
    expect(log, `${name} for ${architecture}`).not.toMatch(/warning/i);
  }
});

test('all of it takes less than 15 MB of an image', async () => {
  let bytes = 0;
  for (const architecture of ARCHITECTURES) {
    for (const file of await readdir(folderOf(architecture))) {
      if (file.endsWith('.log')) continue; // not in the image: docker/Dockerfile
      bytes += (await stat(path.join(folderOf(architecture), file))).size;
    }
  }
  expect(bytes).toBeLessThan(15e6);
});

test('an error of the compiler has file, line and architecture, and the same source gives the same code', async () => {
  const { env } = process;
  const library = await nvrtcLibrary({ cache: cacheDir(env), env, progress: { update() {} } });
  const kernel = (name: string) =>
    compileKernel({ source: `${name}.cu`, architecture: 'sm_90' }, { library, folder, env, sources: folder });
  await writeFile(path.join(folder, 'header.h'), '#pragma once\ntypedef float Number;\n');
  await writeFile(
    path.join(folder, 'good.cu'),
    '#include "header.h"\nextern "C" __global__ void Good(Number* x) { x[threadIdx.x] += 1; }\n',
  );
  await writeFile(
    path.join(folder, 'bad.cu'),
    '#include "header.h"\nextern "C" __global__ void Bad(Number* x) { y = 1; }\n',
  );
  await kernel('good');
  const once = await readFile(path.join(folder, 'good.cubin'));
  await kernel('good');
  expect(await readFile(path.join(folder, 'good.cubin'))).toEqual(once);
  const failure = await kernel('bad').catch((error: SetupError) => error);
  expect(failure).toBeInstanceOf(SetupError);
  expect(describeFailure(failure)).toMatch(/bad\.cu\(2\): error: identifier "y" is undefined[\s\S]*sm_90/);
  expect(existsSync(path.join(folder, 'bad.cubin'))).toBe(false);
});

function isLoopWithin(used: KernelLoop | undefined, limit: KernelLoop | undefined): boolean {
  if (used === undefined) return true;
  const { mma, ldmatrix, instructions } = used;
  return limit !== undefined && mma <= limit.mma && ldmatrix <= limit.ldmatrix && instructions <= limit.instructions;
}

function greatestLoop(a: KernelLoop | undefined, b: KernelLoop | undefined): KernelLoop | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return {
    mma: Math.max(a.mma, b.mma),
    ldmatrix: Math.max(a.ldmatrix, b.ldmatrix),
    instructions: Math.max(a.instructions, b.instructions),
  };
}

async function loopsOfModule(name: string, architecture: string): Promise<Map<string, KernelLoop>> {
  const file = path.join(folder, `${name}-${architecture}.cubin`);
  await writeFile(file, await moduleOf(name, architecture));
  return await loopsOf(file, await disassembler(process.env));
}

/** The report of ptxas about each kernel of a file, and the loops of those of attention. */
async function resourcesOf(name: string, architecture: string): Promise<Map<string, Resources>> {
  const loops = /^attention_\d+$/.test(name) ? await loopsOfModule(name, architecture) : new Map<string, KernelLoop>();
  const log = await readFile(path.join(folderOf(architecture), `${name}.log`), 'utf8');
  const [, ...parts] = log.split(/Compiling entry function '/);
  return new Map(
    parts.map((part) => {
      const number = (pattern: RegExp) => Number(pattern.exec(part)?.[1] ?? 0);
      const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part);
      const kernel = part.slice(0, part.indexOf("'"));
      const loop = loops.get(kernel);
      expect(spills && /Used \d+ registers/.test(part), `${kernel} for ${architecture}: ${part}`).toBeTruthy();
      const resources = {
        registers: number(/Used (\d+) registers/),
        sharedBytes: number(/(\d+) bytes smem/),
        spillBytes: Number(spills?.[1]) + Number(spills?.[2]),
        ...(loop && { loop }),
      };
      return [kernel, resources];
    }),
  );
}
