import type { ProbeCase, ProbeToken } from '@lorasmith/contracts';
import type { NextToken, NextTokenAnswer } from './completions-server.js';

/**
 * `adapter`: it answers as base and adapter do. `base`: as the base without the adapter. `neither`: as none of the two.
 * `undecided`: as both do, which are too alike for the probe.
 */
export type ProbeVerdict = 'adapter' | 'base' | 'neither' | 'undecided';

export interface JudgedCase {
  prompt: string;
  /** What the server says comes next, and what should. */
  answered: string;
  adapter: string;
  base: string;
}

export interface ProbeJudgement {
  verdict: ProbeVerdict;
  /**
   * How far the server's log-probabilities are from those of base with adapter and of the base alone, as a root mean
   * square; null where the server tells none, and only its words were compared.
   */
  adapter_distance: number | null;
  base_distance: number | null;
  cases: JudgedCase[];
}

/** Another dtype, other kernels or an 8-bit format move a log-probability by up to some tenths. */
export const DEFAULT_TOLERANCE = 0.5;
/** What fits both is what it is nearer to by this factor. */
const CLEARLY_NEARER = 2;
/** Tokens that a probe keeps of base and of adapter each. */
const TOP_TOKENS = 5;
/** Where the first token leads the other by less, rounding may exchange them. */
const CLEAR_LEAD = 0.3;

/**
 * Compares what a server said with what the probe of a manifest expects.
 * @param tolerance - Of a distance, for it to fit.
 */
export function judgeProbe(
  cases: readonly ProbeCase[],
  answers: readonly NextTokenAnswer[],
  tolerance: number = DEFAULT_TOLERANCE,
): ProbeJudgement {
  const judged = cases.map((one, index) => judgedCase(one, answers[index]!));
  const told = answers.map(({ tokens }) => tokens);
  if (told.every((tokens) => tokens !== null)) {
    const distance = (of: LogprobOf) => rootMeanSquare(cases.flatMap((one, i) => differences(one, told[i]!, of)));
    const adapter_distance = distance((token) => token.adapter_logprob);
    const base_distance = distance((token) => token.base_logprob);
    const verdict = nearest(adapter_distance, base_distance, tolerance);
    return { verdict, adapter_distance, base_distance, cases: judged };
  }
  return { verdict: byWords(cases, judged), adapter_distance: null, base_distance: null, cases: judged };
}

type LogprobOf = (token: ProbeToken) => number;

function judgedCase({ prompt, next_tokens }: ProbeCase, { text, tokens }: NextTokenAnswer): JudgedCase {
  return {
    prompt,
    answered: tokens?.[0]?.text ?? text,
    adapter: firstBy(next_tokens, (token) => token.adapter_logprob).text,
    base: firstBy(next_tokens, (token) => token.base_logprob).text,
  };
}

function nearest(adapter: number, base: number, tolerance: number): ProbeVerdict {
  const fitsAdapter = adapter <= tolerance;
  const fitsBase = base <= tolerance;
  if (!fitsAdapter && !fitsBase) return 'neither';
  if (fitsAdapter && (!fitsBase || adapter * CLEARLY_NEARER <= base)) return 'adapter';
  if (fitsBase && (!fitsAdapter || base * CLEARLY_NEARER <= adapter)) return 'base';
  return 'undecided';
}

/** One for each token that is expected or told. Of a token that one side leaves out, only that it is less likely than the side's last is known. */
function differences({ next_tokens: expected }: ProbeCase, told: readonly NextToken[], of: LogprobOf): number[] {
  const leastTold = Math.min(...told.map(({ logprob }) => logprob));
  // The list has the first of base and of adapter; below the last of its own, it knows a model's tokens by chance.
  const leastExpected = expected.map(of).sort((one, other) => other - one)[Math.min(TOP_TOKENS, expected.length) - 1]!;
  const found = new Set<NextToken>();
  const own = expected.map((token) => {
    const match = matchOf(token, told);
    if (match === undefined) return Math.max(0, of(token) - leastTold);
    found.add(match);
    return match.logprob - of(token);
  });
  const others = told.filter((token) => !found.has(token)).map(({ logprob }) => Math.max(0, logprob - leastExpected));
  return [...own, ...others];
}

/** By id where the server tells it; by text otherwise, which servers spell in ways of their own at a space. */
function matchOf(token: ProbeToken, told: readonly NextToken[]): NextToken | undefined {
  const byId = told.find(({ id }) => id === token.id);
  if (byId !== undefined || told.every(({ id }) => id !== null)) return byId;
  const exact = told.find(({ text }) => text === token.text);
  if (exact !== undefined) return exact;
  const alike = told.filter(({ text }) => plain(text) === plain(token.text));
  return alike.length === 1 ? alike[0] : undefined;
}

/** Without what marks a space in vocabularies, and without spaces. */
function plain(text: string): string {
  return text.replace(/[▁Ġ]/g, ' ').trim();
}

function byWords(cases: readonly ProbeCase[], judged: readonly JudgedCase[]): ProbeVerdict {
  const says = (what: 'adapter' | 'base') => judged.map((one) => plain(one.answered) === plain(one[what]));
  const [asAdapter, asBase] = [says('adapter'), says('base')];
  const telling = cases.flatMap((one, index) => (tells(one) ? [index] : []));
  if (telling.length === 0) return asAdapter.some(Boolean) ? 'undecided' : 'neither';
  if (telling.every((index) => asAdapter[index])) return 'adapter';
  if (telling.every((index) => asBase[index])) return 'base';
  return 'neither';
}

/** Whether base and adapter clearly say something else. */
function tells({ next_tokens: tokens }: ProbeCase): boolean {
  const byAdapter = firstBy(tokens, (token) => token.adapter_logprob);
  const byBase = firstBy(tokens, (token) => token.base_logprob);
  const leadOfAdapter = byAdapter.adapter_logprob - byBase.adapter_logprob;
  const leadOfBase = byBase.base_logprob - byAdapter.base_logprob;
  return byAdapter.id !== byBase.id && leadOfAdapter >= CLEAR_LEAD && leadOfBase >= CLEAR_LEAD;
}

function firstBy(tokens: readonly ProbeToken[], of: LogprobOf): ProbeToken {
  return tokens.reduce((first, token) => (of(token) > of(first) ? token : first));
}

function rootMeanSquare(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / Math.max(1, values.length));
}
