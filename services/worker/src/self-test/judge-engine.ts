import type { KernelSource } from '@lorasmith/contracts';
import type { CaseTolerance, ComputedCase, SelfTestPart } from '@lorasmith/training';
import type { PartResult } from './compute-part.js';

/** The kernels that a part of the self-test is computed with. */
export interface TestedKernels {
  kernels: KernelSource;
  /** Fused kernels that plain ops replace. */
  avoid: string[];
}

/** Compares one part on the card with the CPU. */
export type ComparePart = (part: SelfTestPart, tested: TestedKernels) => Promise<CaseVerdict[]>;

/** The trust in an engine on a card. */
export interface Judgement {
  verdicts: CaseVerdict[];
  kernels: KernelSource;
  /** Fused kernels that are wrong by themselves. */
  avoided: string[];
  /** The fault that is there without fused kernels, too; null: the engine is trusted. */
  distrust: string | null;
}

/** The most cases that a message lists. */
const MOST_NAMED = 5;

/**
 * Decides how far an engine is trusted: with fused kernels, but for those that are wrong by themselves, if training steps are right
 * with the others; else with plain ops only, if simple ops, products and training steps are right with them; else not at all.
 */
export async function judgeEngine(compare: ComparePart): Promise<Judgement> {
  const verdicts = await compare('kernels', { kernels: 'fused', avoid: [] });
  const avoided = avoidedIn(verdicts);
  const basic = failuresIn(verdicts).filter(({ subject: { kind } }) => kind === 'op' || kind === 'product');
  if (basic.length > 0)
    return { verdicts, kernels: 'fused', avoided, distrust: `wrong on this card: ${listed(basic)}` };
  if (failuresIn(verdicts).every(({ subject }) => subject.kind === 'kernel')) {
    const steps = await compare('training', { kernels: 'fused', avoid: avoided });
    verdicts.push(...steps);
    if (failuresIn(steps).length === 0) return { verdicts, kernels: 'fused', avoided, distrust: null };
  }
  const plain = await comparePlain(compare);
  verdicts.push(...plain);
  const wrong = failuresIn(plain);
  const distrust = wrong.length === 0 ? null : `wrong on this card: ${listed(wrong)}`;
  return { verdicts, kernels: 'raw', avoided, distrust };
}

/** Simple ops and products, then training steps if those are right. */
async function comparePlain(compare: ComparePart): Promise<CaseVerdict[]> {
  const tested: TestedKernels = { kernels: 'raw', avoid: [] };
  const verdicts = await compare('basics', tested);
  if (failuresIn(verdicts).length === 0) verdicts.push(...(await compare('training', tested)));
  return verdicts;
}

export function failuresIn(verdicts: readonly CaseVerdict[]): CaseVerdict[] {
  return verdicts.filter(({ fault }) => fault !== null);
}

function avoidedIn(verdicts: readonly CaseVerdict[]): string[] {
  const kernels = failuresIn(verdicts).filter(({ subject }) => subject.kind === 'kernel');
  return [...new Set(kernels.map(({ subject }) => subject.name))].sort();
}

function listed(failures: readonly CaseVerdict[]): string {
  const named = failures.slice(0, MOST_NAMED).map(({ name, fault }) => `${name} (${fault})`);
  const others = failures.length - named.length;
  return `${named.join('; ')}${others > 0 ? `; and ${others} more` : ''}`;
}

/** The verdict of a case on the engine. */
export interface CaseVerdict {
  name: string;
  subject: ComputedCase['subject'];
  /** null when it agrees with the CPU. */
  fault: string | null;
  /** The greatest difference in units of its tolerance, above 1 a fault; null where there are no numbers to compare. */
  excess: number | null;
}

/**
 * Compares a case on the card with the same case on the CPU.
 * @param card computed twice
 */
export function judgeCase(card: PartResult, cpu: ComputedCase): CaseVerdict {
  const { name, subject } = cpu;
  return { name, subject, ...judgementOf(card, cpu) };
}

type CaseJudgement = Pick<CaseVerdict, 'fault' | 'excess'>;

function judgementOf(card: PartResult, cpu: ComputedCase): CaseJudgement {
  const none = (fault: string): CaseJudgement => ({ fault, excess: null });
  if (cpu.values === null) return none(`the CPU could not compute it: ${cpu.error}`);
  if (card.values === null) return none(card.error ?? 'it was not computed');
  if (!card.isRepeatable) return none('two runs on the card differ');
  let worst: CaseJudgement = { fault: null, excess: 0 };
  for (const [output, expected] of Object.entries(cpu.values)) {
    const actual = card.values[output];
    if (actual === undefined || actual.length !== expected.length) return none(`${output} has another shape`);
    const { fault, excess } = compare(actual, expected, cpu.tolerance);
    if (excess! > worst.excess!) worst = { fault: fault && `${output} ${fault}`, excess };
  }
  return worst;
}

function compare(actual: Float32Array, expected: Float32Array, tolerance: CaseTolerance): CaseJudgement {
  return tolerance.kind === 'vector'
    ? compareVectors(actual, expected, tolerance)
    : compareElements(actual, expected, tolerance);
}

type Tolerance<Kind extends CaseTolerance['kind']> = Extract<CaseTolerance, { kind: Kind }>;

/** Compares numbers one by one. Those that are not finite must be the same on both: infinities at the same indices, NaN where NaN is. */
function compareElements(
  actual: Float32Array,
  expected: Float32Array,
  { relative, absolute, rowSize = expected.length }: Tolerance<'elements'>,
): CaseJudgement {
  const whole = rootMeanSquare(expected);
  let floor = 0;
  let wrong = 0;
  let worst = 0;
  let worstAt = -1;
  for (let i = 0; i < expected.length; i++) {
    if (i % rowSize === 0) floor = absolute * Math.max(whole, rootMeanSquare(expected.subarray(i, i + rowSize)));
    const [a, b] = [actual[i]!, expected[i]!];
    if (Object.is(a, b) || a === b) continue;
    const share = Math.abs(a - b) / (relative * Math.abs(b) + floor);
    const excess = Number.isNaN(share) ? Number.POSITIVE_INFINITY : share;
    if (excess > 1) wrong++;
    if (excess > worst) [worst, worstAt] = [excess, i];
  }
  if (wrong === 0) return { fault: null, excess: worst };
  const [is, shouldBe] = [shown(actual[worstAt]!), shown(expected[worstAt]!)];
  const fault = `differs in ${wrong} of ${expected.length} numbers, most at ${worstAt}: ${is} instead of ${shouldBe}`;
  return { fault, excess: worst };
}

function compareVectors(
  actual: Float32Array,
  expected: Float32Array,
  { relative }: Tolerance<'vector'>,
): CaseJudgement {
  let difference = 0;
  let length = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    length += expected[i]! ** 2;
  }
  const share = difference === 0 ? 0 : Math.sqrt(difference / length);
  const excess = Number.isNaN(share) ? Number.POSITIVE_INFINITY : share / relative;
  const fault = `differs by ${share.toPrecision(3)} of its length; ${relative} is the limit`;
  return { fault: excess > 1 ? fault : null, excess };
}

function rootMeanSquare(numbers: Float32Array): number {
  let sum = 0;
  let finite = 0;
  for (const number of numbers) {
    if (!Number.isFinite(number)) continue;
    sum += number ** 2;
    finite++;
  }
  return finite === 0 ? 0 : Math.sqrt(sum / finite);
}

function shown(value: number): string {
  return String(Number(value.toPrecision(6)));
}
