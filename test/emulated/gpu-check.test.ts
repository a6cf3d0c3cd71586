import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

// `npm run gpu-check` on the emulated card, with tiny models: what one starts on the day that a card is at hand.

// The specifier is computed because the file is JavaScript without declarations.
const { cudaEnvironment } = await import(new URL('../checks/gpu-check/parts.mjs', import.meta.url).href);
const execute = promisify(execFile);
const PROGRAM = fileURLToPath(new URL('../checks/gpu-check.mjs', import.meta.url));
/** The others start whole stacks, which takes minutes on an emulated card. */
const PARTS = [
  ...[
    'card',
    'self-test',
    'types',
    'reference-float32',
    'reference-bfloat16',
    'speed-tiny',
    'unlike-lengths',
    'nf4-tiny',
  ],
  ...['generation', 'shared-prompts', 'several-jobs', 'mixture', 'mixture-nf4', 'padding-both', 'padding-depth'],
];

let out: string;
beforeAll(async () => {
  out = await mkdtemp(path.join(tmpdir(), 'emulated-check-'));
});
afterAll(() => rm(out, { recursive: true }));

/** Runs parts. @returns its exit code, what it wrote, and its results */
async function check(parts: readonly string[]) {
  const child = spawn(process.execPath, [PROGRAM, '--emulated', '--out', out, '--only', parts.join()], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let written = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      written += chunk;
    });
  }
  const [code] = await once(child, 'close');
  const results = JSON.parse(await readFile(path.join(out, 'results.json'), 'utf8'));
  return { code, written, results };
}

test.each([
  [
    'the kernels that it avoids',
    { kernels: 'fused', avoided: ['addRmsNorm:bfloat16', 'rmsNorm:bfloat16'] },
    /^(Add)?RmsNorm(?!Gradient)/,
  ],
  ['fused kernels where it trusts plain ones alone', { kernels: 'raw', avoided: [] }, /RmsNorm|Attention|Lora|AdamW/],
])(
  'parts after the self-test do not use %s',
  async (_, judged, unused) => {
    await mkdir(path.join(out, 'parts'), { recursive: true });
    const selfTest = { done: true, trusted: true, ...judged, cases: [] };
    await writeFile(path.join(out, 'parts/self-test.json'), JSON.stringify(selfTest));
    const { code, written, results } = await check(['speed-tiny']);
    expect(code, written).toBe(0);
    const folder = path.join(out, 'launches/speed-tiny');
    const counts = await Promise.all((await readdir(folder)).map((name) => readFile(path.join(folder, name), 'utf8')));
    const launched = counts.flatMap((text) => Object.keys(JSON.parse(text)));
    expect(launched).toContain('cublasLtMatmul');
    expect(launched.filter((name) => unused.test(name))).toEqual([]);
    expect(results.summary.join('\n')).toMatch(/without addRmsNorm:bfloat16, rmsNorm:bfloat16|plain kernels only/);
  },
  600_000,
);

test('parts that need no stack are done and reported, and launch every kernel', async () => {
  const { code, written, results } = await check(PARTS);
  const endings = Object.fromEntries(results.parts.map(({ name, ending }: Record<string, string>) => [name, ending]));
  expect(endings, written).toEqual(Object.fromEntries(PARTS.map((name) => [name, 'done'])));
  expect(code).toBe(0);
  expect(results.version).toMatch(/^\d+\.\d+\.\d+, (commit [0-9a-f]{40}|a package without git)/);
  expect(results).toMatchObject({
    kernels: expect.stringContaining('sm_90'),
    compiler: expect.stringMatching(/^NVRTC \d+\.\d+\.\d+ of CUDA \d+\.\d+$/),
    cuBLASLt: expect.stringMatching(/^12\.9\.1, .*emulated\/libcublasLt\.so\.12$/),
    NVRTC: 'not opened',
  });
  const summary = results.summary as string[];
  const sentence = summary.at(-1);
  // A kernel that no part launches is a finding, unless test/checks/gpu-check/findings.mjs has a reason.
  expect(summary.join('\n')).toMatch(
    /^- kernels: \d+ of \d+ were launched; not 7 as no tensor is cast to the type that it has, /m,
  );
  expect(summary.join('\n')).not.toContain('never launched');
  expect(sentence).toBe(
    '**Whether the emulated card can be used is not known: run what is missing, too (--only demo).**',
  );
  const report = await readFile(path.join(out, 'report.md'), 'utf8');
  expect(report).toContain('EMULATED on the CPU');
  expect(report).toContain('the engine is trusted');
  expect(report).not.toContain('**no**');
  expect(report).toMatch(/\| waits +\| +2 \|/);
  expect(report).toMatch(/\| full trims +\| +0 \|/);
  expect(report).toMatch(/\| 4 jobs, 1 × 16 +\|.*\| +4\.0 \|/);
  expect(report).toMatch(/\| 16 +\| +drawn, top_p 0\.9 \| +\d+ \|/);
}, 1_200_000);

test.each(['address', '719'])(
  'a launch that is broken on purpose ends the context: %s',
  async (fault) => {
    const library = path.join(out, 'fault-at-launch.so');
    const source = fileURLToPath(new URL('../checks/gpu-check/fault-at-launch.c', import.meta.url));
    await execute(process.env.CC || 'gcc', ['-O1', '-shared', '-fPIC', source, '-o', library, '-ldl']);
    const result = path.join(out, `fault-${fault}.json`);
    const program = fileURLToPath(new URL('../checks/gpu-check/training-main.mjs', import.meta.url));
    const env = {
      ...cudaEnvironment({ env: process.env, isEmulated: true }),
      ...{ LD_PRELOAD: library, FAULT: fault, FAULT_AT_LAUNCH: '100' },
      ...{ FAULT_FILE: path.join(out, `fault-${fault}`), RESULT_FILE: result },
    };
    const model = path.join(out, 'random-tiny');
    const ended = execute(process.execPath, [program, '--model', model, '--sizes', '2x32', '--steps', '2'], { env });
    await expect(ended).rejects.toMatchObject({ code: 1 });
    const [size] = JSON.parse(await readFile(result, 'utf8')).sizes;
    expect(size.error).toContain(fault === 'address' ? 'CUDA_ERROR_ILLEGAL_ADDRESS' : 'CUDA_ERROR_LAUNCH_FAILED');
  },
  120_000,
);
