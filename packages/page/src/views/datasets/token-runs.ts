import type { RowToken, RowTokens } from '@lorasmith/contracts';

/** The use of a token by a job: it is a target of the loss, it is only read, or it is in no sequence. */
export type TokenUse = 'trained' | 'read' | 'left-out';

/** Neighbouring tokens with the same use, in the same sequence. */
export interface TokenRun {
  use: TokenUse;
  /** True if a sequence starts here, other than at the start of the row. */
  isCut: boolean;
  tokens: RowToken[];
}

/** The shown tokens of a row, as runs. */
export function tokenRuns({ data, sequences }: RowTokens): TokenRun[] {
  const runs: TokenRun[] = [];
  const starts = new Set(sequences.map(({ start }) => start));
  let sequence = 0;
  for (const [index, token] of data.entries()) {
    while (sequence < sequences.length && index >= endOf(sequences[sequence]!)) sequence++;
    const isInside = sequence < sequences.length && index >= sequences[sequence]!.start;
    const use = !isInside ? 'left-out' : token.trained ? 'trained' : 'read';
    const isCut = index > 0 && starts.has(index);
    const last = runs.at(-1);
    if (last?.use === use && !isCut) last.tokens.push(token);
    else runs.push({ use, isCut, tokens: [token] });
  }
  return runs;
}

function endOf({ start, tokens }: RowTokens['sequences'][number]): number {
  return start + tokens;
}

/** The text of a token with what cannot be seen made visible. */
export function visibleText(text: string): string {
  if (text === '') return '◌';
  return text.replaceAll(/\r?\n/g, '↵\n').replaceAll('\t', '⇥\t');
}
