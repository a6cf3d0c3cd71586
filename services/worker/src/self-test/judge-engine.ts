import type { KernelSource } from '@lorasmith/contracts';
import type { SelfTestPart } from '@lorasmith/training';
import type { CaseVerdict } from './compare-results.js';

/** The kernels that a part of the self-test is computed with. */
export interface TestedKernels {
  kernels: KernelSource;
  /** Fused kernels that plain ops replace. */
  avoid: string[];
}

/** Compares one part on the card with the CPU. */
export type ComparePart = (part: SelfTestPart, tested: TestedKernels) => Promise<CaseVerdict[]>;

/** How far an engine is trusted on a card. */
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
