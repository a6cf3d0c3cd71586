import type { AnswerScores } from '@lorasmith/contracts';

/** More of a text is not compared: the time is the product of both lengths. */
const MAX_CHARACTERS = 4_096;
const MAX_WORDS = 2_048;

/**
 * Indel similarity, as `ratio` of rapidfuzz / 100: twice the length of the longest common subsequence of characters, by the sum of
 * both lengths; 1 for two empty texts.
 */
export function fuzzyMatch(one: string, other: string): number {
  const [left, right] = [[...one.slice(0, MAX_CHARACTERS)], [...other.slice(0, MAX_CHARACTERS)]];
  const total = left.length + right.length;
  return total === 0 ? 1 : (2 * longestCommon(left, right)) / total;
}

/**
 * The F-measure of ROUGE (Lin 2004), as rouge-score has it without stemming: of runs of `size` words that both texts have.
 * 0 where a text has none.
 */
export function rougeN(text: string, reference: string, size: number): number {
  const [found, wanted] = [countsOf(wordsOf(text), size), countsOf(wordsOf(reference), size)];
  let common = 0;
  for (const [run, count] of wanted.counts) common += Math.min(count, found.counts.get(run) ?? 0);
  return fMeasure(common, found.total, wanted.total);
}

/** The F-measure of ROUGE-L: of the longest common subsequence of words. */
export function rougeL(text: string, reference: string): number {
  const [found, wanted] = [wordsOf(text), wordsOf(reference)];
  return fMeasure(longestCommon(found, wanted), found.length, wanted.length);
}

/** Runs of letters and digits, in lower case. As in rouge-score only those of ASCII, and others of Unicode besides. */
function wordsOf(text: string): string[] {
  return (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).slice(0, MAX_WORDS);
}

function countsOf(words: readonly string[], size: number): { counts: Map<string, number>; total: number } {
  const counts = new Map<string, number>();
  const total = Math.max(0, words.length - size + 1);
  for (let first = 0; first < total; first++) {
    const run = words.slice(first, first + size).join(' ');
    counts.set(run, (counts.get(run) ?? 0) + 1);
  }
  return { counts, total };
}

function fMeasure(common: number, found: number, wanted: number): number {
  return common === 0 ? 0 : (2 * common) / (found + wanted);
}

/** The length of the longest common subsequence. */
function longestCommon<Item>(left: readonly Item[], right: readonly Item[]): number {
  let before = new Uint16Array(right.length + 1);
  let now = new Uint16Array(right.length + 1);
  for (const item of left) {
    for (let i = 0; i < right.length; i++) {
      now[i + 1] = item === right[i] ? before[i]! + 1 : Math.max(now[i]!, before[i + 1]!);
    }
    [before, now] = [now, before];
  }
  return before[right.length]!;
}

/** An answer, and what it should be. */
export interface ComparedAnswer {
  text: string;
  reference: string;
}

/** The means of exact match, F1 over words, and ROUGE-L over some answers. @param answers - At least one */
export function answerScores(answers: readonly ComparedAnswer[]): AnswerScores {
  const mean = (score: (answer: ComparedAnswer) => number) =>
    answers.reduce((sum, answer) => sum + score(answer), 0) / answers.length;
  return {
    rows: answers.length,
    exact_match: mean(({ text, reference }) => Number(text.trim() === reference.trim())),
    f1: mean((answer) => similarityOf(answer, (text, reference) => rougeN(text, reference, 1))),
    rouge_l: mean((answer) => similarityOf(answer, rougeL)),
  };
}

/** Texts without words, such as `+` and `+`, are compared as they are. */
function similarityOf({ text, reference }: ComparedAnswer, of: (text: string, reference: string) => number): number {
  return text.trim() === reference.trim() ? 1 : of(text, reference);
}
