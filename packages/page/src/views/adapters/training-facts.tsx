import { countText, durationText } from '@lorasmith/client/core';
import type {
  AdapterChecks,
  Evaluation,
  PublishedCheckpointOrigin,
  SamplePrompt,
  TrainedOrigin,
  TrainingResult,
} from '@lorasmith/contracts';
import { DatasetLink } from '../../components/dataset-link.js';
import { Facts } from '../../components/facts.js';
import { hasRewards } from '../../history/job-history.js';

type Trained = TrainedOrigin | PublishedCheckpointOrigin;

/** The results of an adapter's training: figures, checks before it was published, and samples before and after. */
export function TrainingFacts({ origin }: { origin: Trained }) {
  const { result, checks, dataset, settings } = origin;
  const prompts = settings.samples?.prompts ?? [];
  return (
    <>
      <section class="card" aria-labelledby="training">
        <h2 id="training">Training</h2>
        <Facts
          entries={[
            [
              'Dataset',
              <span key="dataset">
                {countText(dataset.rows)} rows of <DatasetLink id={dataset.id} />
              </span>,
            ],
            ['Steps', `${countText(result.steps)}${result.stopped_early ? ', stopped early' : ''}`],
            ['The adapter is of step', countText(result.adapter_step)],
            ['Loss', hasRewards(settings) ? null : `${result.first_loss.toFixed(4)} → ${result.last_loss.toFixed(4)}`],
            ['Evaluation before', evaluationText(result.evaluation_before)],
            ['Evaluation after', evaluationText(result.evaluation_after)],
            ['Trained tokens', `${countText(result.trained_tokens)} of ${countText(result.tokens)} read`],
            ['Time', durationText(result.seconds)],
          ]}
        />
      </section>
      <Checks checks={checks} />
      <Samples result={result} prompts={prompts} />
    </>
  );
}

function Checks({ checks }: { checks: AdapterChecks }) {
  const rows: readonly (readonly [what: string, difference: number, bound: number])[] = [
    ['The files, as read back, give the trained adapter', checks.read_back_difference, checks.read_back_bound],
    [
      `The merged model (${checks.merged_dtype}) gives the base with the adapter`,
      checks.merged_difference,
      checks.merged_bound,
    ],
  ];
  return (
    <section class="card" aria-labelledby="checks">
      <h2 id="checks">Checks before it was published</h2>
      <ul class="checks">
        <li>
          The adapter changes the base model: {checks.adapter_difference.toPrecision(3)} over{' '}
          {countText(checks.logprobs)} log-probabilities.
        </li>
        {rows.map(([what, difference, bound]) => (
          <li key={what}>
            {what}: differs by {difference.toPrecision(3)}; {bound.toPrecision(3)} is allowed.{' '}
            {difference <= bound ? 'Passed.' : 'Not passed.'}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Samples({ result, prompts }: { result: TrainingResult; prompts: readonly SamplePrompt[] }) {
  const before = result.samples[0];
  const after = result.samples.at(-1);
  if (before === undefined || after === undefined) return null;
  return (
    <section class="card" aria-labelledby="samples">
      <h2 id="samples">Samples</h2>
      <table class="data-table">
        <caption class="visually-hidden">Answers to each prompt before and after training</caption>
        <thead>
          <tr>
            <th scope="col">Prompt</th>
            <th scope="col">{before.step === 0 ? 'Before training' : `Step ${before.step}`}</th>
            <th scope="col">After step {after.step}</th>
          </tr>
        </thead>
        <tbody>
          {after.samples.map(({ prompt, text }) => (
            <tr key={prompt}>
              <th scope="row" data-label="Prompt" class="sample-text">
                {promptText(prompts[prompt]) ?? `prompt ${prompt + 1}`}
              </th>
              <td data-label="Before" class="sample-text">
                {before.samples.find((one) => one.prompt === prompt)?.text}
              </td>
              <td data-label="After" class="sample-text">
                {text}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A prompt, or the last turn of a conversation. */
function promptText(prompt: SamplePrompt | undefined): string | undefined {
  return typeof prompt === 'string' ? prompt : prompt?.at(-1)?.content;
}

function evaluationText(evaluation: Evaluation | null): string | null {
  if (evaluation === null) return null;
  const { loss, perplexity, accuracy, group } = evaluation;
  if (group !== undefined)
    return `reward ${group.reward.toFixed(4)}, ${(100 * accuracy).toFixed(1)} % ended by themselves`;
  return [
    `loss ${loss.toFixed(4)}`,
    perplexity === null ? '' : `perplexity ${perplexity.toPrecision(4)}`,
    `${(100 * accuracy).toFixed(1)} % right`,
  ]
    .filter(Boolean)
    .join(', ');
}
