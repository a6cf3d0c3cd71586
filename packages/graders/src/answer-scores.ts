import type { AnswerScores } from '@lorasmith/contracts';
import { rougeL, rougeN } from './similarity.js';

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
