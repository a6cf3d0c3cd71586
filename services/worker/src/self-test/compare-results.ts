import type { CaseTolerance, ComputedCase } from '@lorasmith/training';
import type { PartResult } from './compute-part.js';

/** The verdict of a case on the engine: null when it agrees with the CPU. */
export interface CaseVerdict {
  name: string;
  subject: ComputedCase['subject'];
  fault: string | null;
}

/**
 * Compares a case on the card with the same case on the CPU.
 * @param card computed twice
 */
export function judgeCase(card: PartResult, cpu: ComputedCase): CaseVerdict {
  const { name, subject, tolerance } = cpu;
  return { name, subject, fault: faultOf(card, cpu, tolerance) };
}

function faultOf(card: PartResult, cpu: ComputedCase, tolerance: CaseTolerance): string | null {
  if (cpu.values === null) return `the CPU could not compute it: ${cpu.error}`;
  if (card.values === null) return card.error ?? 'it was not computed';
  if (!card.isRepeatable) return 'two runs on the card differ';
  for (const [output, expected] of Object.entries(cpu.values)) {
    const actual = card.values[output];
    if (actual === undefined || actual.length !== expected.length) return `${output} has another shape`;
    const excess = tolerance.kind === 'vector' ? vectorExcess(actual, expected) : elementExcess(actual, expected);
    const fault = excess(tolerance as never);
    if (fault !== null) return `${output} ${fault}`;
  }
  return null;
}

type Excess<Kind extends CaseTolerance['kind']> = (tolerance: Extract<CaseTolerance, { kind: Kind }>) => string | null;

/** Numbers that are not finite must be the same on both sides: infinities in the same places, NaN where NaN is. */
function elementExcess(actual: Float32Array, expected: Float32Array): Excess<'elements'> {
  return ({ relative, absolute }) => {
    const floor = absolute * rootMeanSquare(expected);
    let wrong = 0;
    let worst = 0;
    let worstAt = -1;
    for (let i = 0; i < expected.length; i++) {
      const [a, b] = [actual[i]!, expected[i]!];
      if (Object.is(a, b) || a === b) continue;
      const share = Math.abs(a - b) / (relative * Math.abs(b) + floor);
      if (share <= 1) continue;
      wrong++;
      if (worstAt === -1 || !(share <= worst)) [worst, worstAt] = [share, i];
    }
    if (wrong === 0) return null;
    return `differs in ${wrong} of ${expected.length} numbers, most at ${worstAt}: ${shown(actual[worstAt]!)} instead of ${shown(expected[worstAt]!)}`;
  };
}

function vectorExcess(actual: Float32Array, expected: Float32Array): Excess<'vector'> {
  return ({ relative }) => {
    let difference = 0;
    let length = 0;
    for (let i = 0; i < expected.length; i++) {
      difference += (actual[i]! - expected[i]!) ** 2;
      length += expected[i]! ** 2;
    }
    const share = Math.sqrt(difference / length);
    // Also true for NaN.
    return share <= relative ? null : `differs by ${share.toPrecision(3)} of its length; ${relative} is the limit`;
  };
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
