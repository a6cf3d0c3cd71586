import { countText } from '@lorasmith/client/core';
import type { AnswerRound } from '@lorasmith/contracts';
import { numberText } from '../../charts/number-text.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { GeneratedText } from './generated-text.js';
import { RoundSelect } from './round-select.js';

export interface AnswersCardProps {
  /** Rounds by step, ascending. */
  rounds: readonly AnswerRound[];
  /** The step of the round that is chosen in the address; null: the latest. */
  chosenStep: string | null;
}

/** Sampled answers of a step, with their rewards. */
export function AnswersCard({ rounds, chosenStep }: AnswersCardProps) {
  const latest = rounds.at(-1);
  if (latest === undefined) return <p class="muted">No answers have been graded yet.</p>;
  const shown = rounds.find(({ step }) => String(step) === chosenStep) ?? latest;
  return (
    <section class="card">
      <h2>Graded answers</h2>
      {rounds.length > 1 && (
        <RoundSelect
          label="Of step"
          parameter="answers"
          steps={rounds.map(({ step }) => step)}
          shown={shown.step}
          textOf={countText}
        />
      )}
      <article class="sample">
        <h3>
          <span class="visually-hidden">End of the prompt of line {shown.line}: </span>
          {shown.prompt}
        </h3>
        <DataTable
          caption="Answers with their rewards"
          columns={COLUMNS}
          rows={numbered(shown)}
          keyOf={({ key }) => key}
        />
      </article>
    </section>
  );
}

type Answer = AnswerRound['answers'][number] & { key: string };

function numbered({ answers }: AnswerRound): Answer[] {
  return answers.map((answer, index) => ({ ...answer, key: String(index) }));
}

const COLUMNS: readonly Column<Answer>[] = [
  {
    title: 'Answer',
    cell: (answer) => (
      <span class="generated">
        <GeneratedText answer={answer} />
      </span>
    ),
  },
  { title: 'Tokens', isNumber: true, cell: ({ tokens }) => countText(tokens) },
  { title: 'Reward', isNumber: true, cell: ({ reward }) => numberText(reward) },
];
