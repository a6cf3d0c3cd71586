import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { SelfTest } from '@lorasmith/contracts';
import { PRODUCT_VERSION } from '@lorasmith/service-kit';
import { writeFileAtomic } from '@lorasmith/storage';
import type { CaseSizes } from '@lorasmith/training';
import type { Logger } from 'pino';
import { Value } from 'typebox/value';
import type { SelfTestedCard } from '../device/choose-engine.js';
import { engineEnvironment } from '../device/engine-environment.js';
import { runSelfTest, type SelfTestRunOptions } from './run-self-test.js';

export interface RememberedSelfTestOptions extends Required<Pick<SelfTestRunOptions, 'program' | 'sizes'>> {
  dataDir: string;
  log: Logger;
  /** Called where the test is not remembered, before it. */
  onStart: () => void;
}

/**
 * The self-test of the CUDA engine on a card: run at the first start on it, and again with another driver or version of
 * this product. A test that the engine failed is always run again: the cause may have been mended.
 */
export async function rememberedSelfTest(
  options: RememberedSelfTestOptions,
  tested: SelfTestedCard,
): Promise<SelfTest> {
  const { dataDir, log, program, sizes } = options;
  const file = path.join(dataDir, 'machines', `self-test-${keyOf(tested, sizes)}.json`);
  const known = await readKnown(file);
  if (known !== null) {
    log.info(summaryOf(tested, known), 'the CUDA engine passed its self-test on this GPU before');
    return known;
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
  report(log, tested, result);
  return result;
}

/** Stores a result for the next start of a worker with this data folder. */
export async function storeSelfTest(
  dataDir: string,
  tested: SelfTestedCard,
  sizes: CaseSizes,
  result: SelfTest,
): Promise<void> {
  const folder = path.join(dataDir, 'machines');
  await mkdir(folder, { recursive: true });
  await writeFileAtomic(
    path.join(folder, `self-test-${keyOf(tested, sizes)}.json`),
    `${JSON.stringify(result, null, 2)}\n`,
  );
}

/** Changes with the card, its driver and everything of this product that computes on it. */
function keyOf({ card, installation }: SelfTestedCard, sizes: CaseSizes): string {
  const { uuid, name, driver, memory_bytes: bytes } = card;
  const parts = [uuid, name, driver, bytes, PRODUCT_VERSION, installation.digest, sizes];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}

async function readKnown(file: string): Promise<SelfTest | null> {
  try {
    const result: unknown = JSON.parse(await readFile(file, 'utf8'));
    return Value.Check(SelfTest, result) && result.distrust === null ? result : null;
  } catch {
    // Missing or damaged: the engine is tested again.
    return null;
  }
}

function report(log: Logger, tested: SelfTestedCard, result: SelfTest): void {
  const summary = summaryOf(tested, result);
  if (result.distrust !== null) log.error(summary, 'the CUDA engine failed its self-test on this GPU');
  else if (result.failed.length > 0) log.warn(summary, 'the CUDA engine avoids kernels that are wrong on this GPU');
  else log.info(summary, 'the CUDA engine passed its self-test on this GPU');
}

function summaryOf({ card }: SelfTestedCard, result: SelfTest) {
  const { name, driver, compute_capability } = card;
  return { card: name, driver, compute_capability, self_test: result };
}
