import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { SelfTest } from '@lorasmith/contracts';
import { PRODUCT_VERSION } from '@lorasmith/service-kit';
import { writeFileAtomic } from '@lorasmith/storage';
import type { CaseSizes } from '@lorasmith/training';
import type { Logger } from 'pino';
import { Value } from 'typebox/value';
import { engineEnvironment, type JudgedEngine, type SelfTestedCard } from '../device/choose-engine.js';
import { runSelfTest, type SelfTestRunOptions } from './run-self-test.js';

export interface RememberedSelfTestOptions extends Required<Pick<SelfTestRunOptions, 'program' | 'sizes'>> {
  dataDir: string;
  log: Logger;
  /** Called where the test is not remembered, before it. */
  onStart: () => void;
  /** Milliseconds since 1970. @defaultValue Date.now */
  now?: () => number;
}

/**
 * A failed test is remembered for so long: a supervisor restarts the worker again and again, and the cause may have been mended
 * in a way that the key of the result does not show.
 */
const FAILURE_KEPT_MS = 3600 * 1000;

/**
 * The self-test of the CUDA engine on a card: run at the first start on it, and again with another driver or version of
 * this product. A test that the engine failed is run again by the first start after an hour.
 *
 * @throws SelfTestError when the test has no result; nothing is remembered then
 */
export async function rememberedSelfTest(
  options: RememberedSelfTestOptions,
  tested: SelfTestedCard,
): Promise<JudgedEngine> {
  const { dataDir, log, program, sizes, now = Date.now } = options;
  const file = storedFile(dataDir, tested, sizes);
  const known = await readKnown(file, now());
  if (known !== null) {
    report(log, tested, known, true);
    return judged(known, file);
  }
  options.onStart();
  log.info({ card: tested.card }, 'comparing the CUDA engine on this GPU with the CPU, which takes up to a minute');
  const environments = { card: tested.environment, cpu: engineEnvironment('cpu', tested.environment) };
  const result = await runSelfTest({
    program,
    environments,
    sizes,
    onLine: (line) => log.info({ from: 'self-test' }, line),
  });
  await storeSelfTest(dataDir, tested, sizes, result);
  report(log, tested, result, false);
  return judged(result, file);
}

/** Stores a result for the next start of a worker with this data folder. */
export async function storeSelfTest(
  dataDir: string,
  tested: SelfTestedCard,
  sizes: CaseSizes,
  result: SelfTest,
): Promise<void> {
  const file = storedFile(dataDir, tested, sizes);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFileAtomic(file, `${JSON.stringify(result, null, 2)}\n`);
}

function storedFile(dataDir: string, tested: SelfTestedCard, sizes: CaseSizes): string {
  return path.resolve(dataDir, 'machines', `self-test-${keyOf(tested, sizes)}.json`);
}

/** Settings that change what computes on the card, or how. */
const SETTINGS = [
  'CUDA_LIBRARY_DIR',
  'CUDA_LAUNCH_BLOCKING',
  'CUDA_MODULE_LOADING',
  'CUBLAS_WORKSPACE_CONFIG',
] as const;

/** Changes with the card, its driver and everything of this product that computes on it. */
function keyOf({ card, installation, environment }: SelfTestedCard, sizes: CaseSizes): string {
  const { uuid, name, driver, memory_bytes: bytes } = card;
  const settings = SETTINGS.map((setting) => environment[setting] ?? null);
  const parts = [uuid, name, driver, bytes, PRODUCT_VERSION, installation.digest, sizes, settings];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

async function readKnown(file: string, nowMs: number): Promise<SelfTest | null> {
  try {
    const result: unknown = JSON.parse(await readFile(file, 'utf8'));
    if (!Value.Check(SelfTest, result)) return null;
    const age = nowMs - Date.parse(result.tested_at);
    // A clock that was set back makes a failed test one of the future.
    return result.distrust === null || (age >= 0 && age < FAILURE_KEPT_MS) ? result : null;
  } catch {
    // Missing or damaged: the engine is tested again.
    return null;
  }
}

function judged(result: SelfTest, file: string): JudgedEngine {
  if (result.distrust === null) return { self_test: result, retest: null };
  const until = new Date(Date.parse(result.tested_at) + FAILURE_KEPT_MS).toISOString();
  const retest = `It was tested at ${result.tested_at}. The first start after ${until} tests it again. To test it at once, delete ${file}.`;
  return { self_test: result, retest };
}

/** Logs a result at each start. What makes jobs slower is a warning each time. */
function report(log: Logger, tested: SelfTestedCard, result: SelfTest, isRemembered: boolean): void {
  const { name: card, driver, compute_capability } = tested.card;
  const [level, message] = reportOf(result, isRemembered);
  log[level]({ card, driver, compute_capability, self_test: result }, message);
}

const WHAT_TO_DO =
  'Jobs are right, but slower, and need more memory. Please report it, with the output of npm run gpu-check';

function reportOf(result: SelfTest, isRemembered: boolean): ['info' | 'warn' | 'error', string] {
  const { distrust, kernels, avoided_kernels: avoided } = result;
  const before = isRemembered ? ' before' : '';
  if (distrust !== null) return ['error', `the CUDA engine failed its self-test on this GPU${before}`];
  if (kernels === 'raw') {
    const why = 'training steps are wrong on this GPU with fused kernels, and right without them';
    return ['warn', `the CUDA engine computes with plain ops only: ${why}. ${WHAT_TO_DO}`];
  }
  if (avoided.length === 0) return ['info', `the CUDA engine passed its self-test on this GPU${before}`];
  return ['warn', `the CUDA engine avoids kernels that are wrong on this GPU: ${avoided.join(', ')}. ${WHAT_TO_DO}`];
}
