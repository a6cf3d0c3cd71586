import type { AnswerRound } from '@lorasmith/contracts';
import { numberText } from '../../charts/number-text.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { changeQuery } from '../../location.js';

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
        <label>
          Of step{' '}
          <select
            value={String(shown.step)}
            onChange={({ currentTarget }) =>
              changeQuery({ answers: currentTarget.value === String(latest.step) ? undefined : currentTarget.value })
            }
          >
            {rounds.map(({ step }) => (
              <option key={step} value={step}>
                {step.toLocaleString('en-US')}
              </option>
            ))}
          </select>
        </label>
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
    cell: ({ text, finish_reason: reason }) => (
      <span class="generated">
        {text === '' ? <span class="muted">(ends at once)</span> : text}
        {reason === 'length' && <span title="The answer reached its limit."> …</span>}
      </span>
    ),
  },
  { title: 'Tokens', isNumber: true, cell: ({ tokens }) => tokens.toLocaleString('en-US') },
  { title: 'Reward', isNumber: true, cell: ({ reward }) => numberText(reward) },
];
