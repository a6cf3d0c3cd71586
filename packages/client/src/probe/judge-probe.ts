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
  const pairs = pairsOf(expected, told, of);
  const own = expected.flatMap((token) => {
    const match = pairs.get(token);
    if (match !== undefined) return [match.logprob - of(token)];
    // Hidden behind another token of the same text, where the server has texts alone.
    if (told.some(({ id, text }) => id === null && plain(text) === plain(token.text))) return [];
    return [Math.max(0, of(token) - leastTold)];
  });
  const paired = new Set(pairs.values());
  const others = told.filter((token) => !paired.has(token)).map(({ logprob }) => Math.max(0, logprob - leastExpected));
  return [...own, ...others];
}

/**
 * Which of the told tokens is which of the expected: by id where the server tells it, by text otherwise. Of several with
 * one text (` I` and `I`), those that are nearest to each other.
 */
function pairsOf(
  expected: readonly ProbeToken[],
  told: readonly NextToken[],
  of: LogprobOf,
): Map<ProbeToken, NextToken> {
  // Some servers leave spaces out; then the text with one and the text without are alike.
  const bothSpaced = [expected, told].every((tokens) => tokens.some(({ text }) => spaced(text).startsWith(' ')));
  const same: ((one: NextToken, token: ProbeToken) => boolean)[] = [
    ({ id }, token) => id === token.id,
    ({ id, text }, token) => bothSpaced && id === null && spaced(text) === spaced(token.text),
    ({ id, text }, token) => id === null && plain(text) === plain(token.text),
  ];
  const pairs = new Map<ProbeToken, NextToken>();
  for (const isSame of same) {
    const free = told.filter((one) => ![...pairs.values()].includes(one));
    const alike = expected
      .filter((token) => !pairs.has(token))
      .flatMap((token) => free.filter((one) => isSame(one, token)).map((one) => ({ token, one })))
      .sort((a, b) => Math.abs(a.one.logprob - of(a.token)) - Math.abs(b.one.logprob - of(b.token)));
    const taken = new Set<NextToken>();
    for (const { token, one } of alike) {
      if (pairs.has(token) || taken.has(one)) continue;
      pairs.set(token, one);
      taken.add(one);
    }
  }
  return pairs;
}

/** With spaces for what marks them in vocabularies. */
function spaced(text: string): string {
  return text.replace(/[▁Ġ]/g, ' ');
}

function plain(text: string): string {
  return spaced(text).trim();
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
