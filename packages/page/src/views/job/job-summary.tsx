import { bytesText, countText } from '@lorasmith/client/core';
import { type BaseQuantization, ENDED_STATUSES, type Job, specOf } from '@lorasmith/contracts';
import { changeText, numberText } from '../../charts/chart-values.js';
import { CodeBlock, ShortId } from '../../components/copy-button.js';
import { Facts } from '../../components/data-table.js';
import { Moment } from '../../components/moment.js';
import { hasRewards, type JobHistory, lossesOf, rewardsOf, scoresOf } from '../../history/job-history.js';
import { Link } from '../../location.js';
import { DatasetLink } from '../datasets/dataset-view.js';
import { tookText } from './job-progress.js';

/** A job in one line: model, dataset, rank, how long it took, when. */
export function JobSubtitle({ job }: { job: Job }) {
  const { report } = job;
  const took = tookText(job);
  const rows =
    report === null ? '' : `, ${countText(report.rows.training)} + ${countText(report.rows.validation)} rows`;
  return (
    <p class="subtitle">
      {/* A mark follows each part, which is no part of the name of a link. */}
      <span>
        <Link to="/models/:name" params={{ name: job.base_model }}>
          {job.base_model}
        </Link>
      </span>
      <span>
        <DatasetLink id={job.dataset} />
        {rows}
      </span>
      {job.kind === 'train' && (
        <span>
          r {job.lora.r}
          {report !== null && `, ${countText(report.parameters.modules.length)} layers`}
        </span>
      )}
      {took !== null && <span>{took}</span>}
      <span>
        {ENDED_STATUSES.includes(job.status) ? '' : 'created '}
        <Moment at={job.ended_at ?? job.created_at} />
      </span>
    </p>
  );
}

interface Figure {
  name: string;
  value: string;
  title?: string;
}

/** The training in five figures. */
export function JobSummary({ job, history }: { job: Job; history: JobHistory }) {
  const figures = figuresOf(job, history);
  if (figures.length === 0) return null;
  return (
    <dl class="figures">
      {figures.map(({ name, value, title }) => (
        <div key={name} title={title}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function figuresOf(job: Job, history: JobHistory): Figure[] {
  const { evaluations, curves, lastStep } = history;
  const report = job.report ?? history.report;
  const steps = report?.steps.total ?? lastStep?.total_steps;
  const estimate = report?.estimate ?? null;
  const isHeldOut = evaluations.length > 0;
  const kind = isHeldOut ? 'held-out' : 'training';
  const isGraded = hasRewards(job);
  const accuracies = isHeldOut ? evaluations.map(({ accuracy }) => accuracy) : curves.accuracy.points().mean;
  const matches = scoresOf(history).map(({ scores }) => scores.exact_match);
  const speeds = curves.tokens_per_second.points().mean;
  return [
    isGraded
      ? { name: `${kind} reward`, value: changeText(rewardsOf(history)), title: 'Mean of the graded answers' }
      : { name: `${kind} loss`, value: changeText(lossesOf(history)) },
    {
      name: isGraded ? `${kind} answers that end` : `${kind} accuracy`,
      value: accuracies.length === 0 ? '' : `${changeText(accuracies, percent)} %`,
      title: isGraded
        ? 'Share of the sampled answers that ended by themselves'
        : 'Share of the trained tokens that the model ranks first',
    },
    {
      name: 'exact match',
      value: matches.length === 0 ? '' : `${changeText(matches, percent)} %`,
      title: 'Share of the answers to held-out rows that are what the row says',
    },
    {
      name: 'steps',
      value: lastStep === null || steps === undefined ? '' : `${countText(lastStep.step)} of ${countText(steps)}`,
    },
    { name: 'tokens/s', value: speeds.length === 0 ? '' : numberText(meanOf(speeds)), title: 'Mean over the steps' },
    {
      name: 'memory, estimated',
      value: estimate === null ? '' : bytesText(estimate.peak_memory_bytes),
      ...(estimate === null
        ? {}
        : { title: `Of ${bytesText(estimate.available_memory_bytes)} on ${estimate.machine}` }),
    },
  ].filter(({ value }) => value !== '');
}

function percent(share: number): string {
  return (100 * share).toFixed(1);
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The words for a base model that is quantized when it is loaded; null: it is not. */
const QUANTIZED_TEXTS: Readonly<Record<BaseQuantization, string | null>> = {
  none: null,
  nf4: 'in 4 bits: quantized to NF4 when it is loaded',
};

/** The settings of a job, and its times. */
export function SettingsCard({ job }: { job: Job }) {
  return (
    <section class="card">
      <h2>Settings</h2>
      <Facts
        entries={[
          ['Id', <ShortId key="id" id={job.id} what="the id of the job" />],
          ['Dataset', <DatasetLink key="dataset" id={job.dataset} />],
          ['Priority', job.priority],
          ['Base model', QUANTIZED_TEXTS[job.training.base_quantization]],
          ['Created', <Moment key="created" at={job.created_at} isExact />],
          ['Started', job.started_at && <Moment at={job.started_at} isExact />],
          ['Ended', job.ended_at && <Moment at={job.ended_at} isExact />],
          ['Took', tookText(job)],
          ['Attempts', job.attempts > 1 ? job.attempts : null],
          ['Owner', job.owner && <code>{job.owner}</code>],
        ]}
      />
      {Object.keys(job.metadata).length > 0 && (
        <>
          <h3>Metadata</h3>
          <Facts entries={Object.entries(job.metadata)} />
        </>
      )}
      <details>
        <summary>All settings as JSON</summary>
        <CodeBlock text={JSON.stringify(specOf(job), null, 2)} what="the settings" />
      </details>
    </section>
  );
}
