import { bytesText, countText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { changeText } from '../../charts/change-text.js';
import { numberText } from '../../charts/number-text.js';
import { hasRewards, type JobHistory, lossesOf, rewardsOf, scoresOf } from '../../history/job-history.js';

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
