import { countText } from '@lorasmith/client/core';
import type { AnswerRound, Sample, SamplePrompt, SampleRound } from '@lorasmith/contracts';
import { numberText } from '../../charts/chart-values.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { scoresOf } from '../../history/job-history.js';
import { changeQuery } from '../../location.js';

export interface SamplesCardProps {
  prompts: readonly SamplePrompt[];
  /** Rounds by step, ascending. */
  rounds: readonly SampleRound[];
  /** The step of the round that is chosen in the address; null: the latest. */
  chosenStep: string | null;
}

/** The answers of the model before training and later, next to each other. */
export function SamplesCard({ prompts, rounds, chosenStep }: SamplesCardProps) {
  const first = rounds[0];
  const latest = rounds.at(-1);
  if (first === undefined || latest === undefined)
    return <p class="muted">The model has not answered the prompts yet.</p>;
  const shown = rounds.find(({ step }) => String(step) === chosenStep) ?? latest;
  return (
    <section class="card">
      <h2>Samples</h2>
      {prompts.length > 0 && rounds.length > 2 && (
        <RoundSelect
          label="Compare with"
          parameter="sample"
          steps={rounds.slice(1).map(({ step }) => step)}
          shown={shown.step}
          textOf={roundText}
        />
      )}
      {prompts.map((prompt, index) => (
        <article key={index} class="sample">
          <h3>
            <span class="visually-hidden">Prompt: </span>
            {promptText(prompt)}
          </h3>
          <div class="sample-answers">
            <Answer round={first} prompt={index} />
            {shown !== first && <Answer round={shown} prompt={index} />}
          </div>
        </article>
      ))}
      <Scores rounds={rounds} />
    </section>
  );
}

type Scored = ReturnType<typeof scoresOf>[number];

const SCORES: readonly Column<Scored>[] = [
  { title: 'Answers', cell: ({ step }) => roundText(step) },
  { title: 'Rows', isNumber: true, cell: ({ scores }) => countText(scores.rows) },
  { title: 'Exact match', isNumber: true, cell: ({ scores }) => `${(100 * scores.exact_match).toFixed(1)} %` },
  { title: 'F1', isNumber: true, cell: ({ scores }) => scores.f1.toFixed(3) },
  { title: 'ROUGE-L', isNumber: true, cell: ({ scores }) => scores.rouge_l.toFixed(3) },
];

/** The scores of answers to held-out rows, by step. */
function Scores({ rounds }: { rounds: readonly SampleRound[] }) {
  const scored = scoresOf({ sampleRounds: [...rounds] });
  if (scored.length === 0) return null;
  return (
    <DataTable caption="Answers to held-out rows" columns={SCORES} rows={scored} keyOf={({ step }) => String(step)} />
  );
}

function Answer({ round, prompt }: { round: SampleRound; prompt: number }) {
  const sample: Sample | undefined = round.samples.find((one) => one.prompt === prompt);
  return (
    <div>
      <h4>{roundText(round.step)}</h4>
      {sample === undefined ? (
        <p class="muted">no answer</p>
      ) : (
        <p class="generated">
          <GeneratedText answer={sample} />
        </p>
      )}
    </div>
  );
}

function roundText(step: number): string {
  return step === 0 ? 'Before training' : `After step ${countText(step)}`;
}

function promptText(prompt: SamplePrompt): string {
  return typeof prompt === 'string' ? prompt : prompt.map(({ role, content }) => `${role}: ${content}`).join('\n');
}

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

type GradedAnswer = AnswerRound['answers'][number] & { key: string };

function numbered({ answers }: AnswerRound): GradedAnswer[] {
  return answers.map((answer, index) => ({ ...answer, key: String(index) }));
}

const COLUMNS: readonly Column<GradedAnswer>[] = [
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

interface RoundSelectProps {
  label: string;
  /** The parameter of the address that has the chosen step; without it, the latest. */
  parameter: string;
  /** The steps of the rounds, ascending. */
  steps: readonly number[];
  shown: number;
  textOf: (step: number) => string;
}

/** The choice of a round by its step. */
function RoundSelect({ label, parameter, steps, shown, textOf }: RoundSelectProps) {
  const latest = String(steps.at(-1));
  return (
    <label>
      {label}{' '}
      <select
        value={String(shown)}
        onChange={({ currentTarget: { value } }) => changeQuery({ [parameter]: value === latest ? undefined : value })}
      >
        {steps.map((step) => (
          <option key={step} value={step}>
            {textOf(step)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The text that a model has generated: also that it is nothing, or that it was cut. */
function GeneratedText({ answer }: { answer: Pick<Sample, 'text' | 'finish_reason'> }) {
  const { text, finish_reason: reason } = answer;
  return (
    <>
      {text === '' ? <span class="muted">(ends at once)</span> : text}
      {reason === 'length' && <span title="The answer reached its limit."> …</span>}
    </>
  );
}
