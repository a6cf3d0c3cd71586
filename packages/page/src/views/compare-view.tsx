import { stateText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { type ChartLine, numberText, seriesColor } from '../charts/chart-values.js';
import { LineChart } from '../charts/line-chart.js';
import { type Column, DataTable } from '../components/data-table.js';
import { ErrorNotice, Loaded } from '../components/error-notice.js';
import { StatusBadge } from '../components/status.js';
import { ViewHead, type ViewProps } from '../components/view.js';
import { type CurveName, type JobHistory, rewardOf } from '../history/job-history.js';
import { useJobHistories } from '../history/use-job-history.js';
import { changeQuery, Link } from '../location.js';
import { nullIf, useClient } from '../service/service.js';
import { usePolled } from '../service/use-polled.js';
import { curveLineWithoutBand, evaluationLine } from './job/training-charts.js';
import { chosenJobs, MAX_COMPARED, toggledJob } from './jobs/chosen-jobs.js';

/** The latest jobs, from which others are chosen. */
const OFFERED = 50;

/** The curves of several jobs over each other. Which ones is in the address. */
export function CompareView({ query }: ViewProps) {
  const client = useClient();
  const ids = chosenJobs(query.get('jobs'));
  const offered = usePolled((signal) => client.listJobs({ limit: OFFERED }, { signal }), [client], { everyMs: 10_000 });
  const trained = (offered.value?.data ?? []).filter(({ kind }) => kind === 'train');
  const toggle = (id: string) => changeQuery({ jobs: toggledJob(ids, id).join() });
  return (
    <>
      <ViewHead title="Compare jobs" />
      <details class="card" open={ids.length < 2}>
        <summary>Choose jobs (up to {MAX_COMPARED})</summary>
        <Loaded from={offered} what="the jobs">
          {() => (
            <ul class="job-choice">
              {trained.map((job) => (
                <li key={job.id}>
                  <label>
                    <input
                      type="checkbox"
                      checked={ids.includes(job.id)}
                      disabled={!ids.includes(job.id) && ids.length >= MAX_COMPARED}
                      onChange={() => toggle(job.id)}
                    />{' '}
                    {job.name ?? job.id} <StatusBadge status={job.status} word={stateText(job)} />{' '}
                    <span class="muted">{job.base_model}</span>
                  </label>
                </li>
              ))}
            </ul>
          )}
        </Loaded>
      </details>
      {ids.length > 0 && <Comparison ids={ids} known={trained} onRemove={toggle} />}
    </>
  );
}

interface ComparisonProps {
  ids: readonly string[];
  known: readonly Job[];
  onRemove: (id: string) => void;
}

function Comparison({ ids, known, onRemove }: ComparisonProps) {
  const client = useClient();
  const histories = useJobHistories(ids);
  // One that was chosen a while ago is not among the latest.
  const jobs = usePolled(
    async (signal) => {
      const read = (id: string) => client.getJob(id, { signal }).catch(nullIf('job_not_found'));
      const found = await Promise.all(ids.map((id) => known.find((job) => job.id === id) ?? read(id)));
      return found.filter((job) => job !== null);
    },
    [client, ids.join(), known.length],
    { everyMs: null },
  );
  const nameOf = (id: string) => {
    const job = (jobs.value ?? known).find((one) => one.id === id);
    // Two jobs may have the same name.
    return job?.name ? `${job.name} (${id.slice(-4)})` : id;
  };
  const columns: Column<string>[] = [
    { title: 'Job', cell: (id) => <JobName id={id} name={nameOf(id)} color={seriesColor(ids.indexOf(id))} /> },
    { title: 'Steps', isNumber: true, cell: (id) => histories.value?.get(id)?.lastStep?.step.toLocaleString('en-US') },
    { title: 'Loss', isNumber: true, cell: (id) => lossText(histories.value?.get(id)) },
    { title: 'Best on held-out rows', isNumber: true, cell: (id) => bestText(histories.value?.get(id)) },
    {
      title: 'Settings',
      cell: (id) => settingsText(jobs.value?.find((job) => job.id === id) ?? known.find((job) => job.id === id)),
    },
    {
      title: 'Remove',
      cell: (id) => (
        <button type="button" aria-label={`Remove ${nameOf(id)}`} onClick={() => onRemove(id)}>
          Remove
        </button>
      ),
    },
  ];
  return (
    <>
      <ErrorNotice error={jobs.error} what="Could not load the jobs" onRetry={jobs.refresh} />
      <Loaded from={histories} what="the curves">
        {(read) => {
          const lines = (draw: (history: JobHistory, index: number, name: string) => ChartLine) =>
            ids.flatMap((id, index) => {
              const history = read.get(id);
              return history === undefined ? [] : [draw(history, index, nameOf(id))];
            });
          const areGraded = read.size > 0 && [...read.values()].every(({ lastStep }) => lastStep?.group !== undefined);
          const curves = (name: CurveName) =>
            lines((history, index, label) => curveLineWithoutBand(history, name, label, seriesColor(index)));
          return (
            <>
              <DataTable caption="The compared jobs" columns={columns} rows={ids} keyOf={(id) => id} />
              <section class="charts" aria-label="Curves">
                <h2 class="visually-hidden">Curves</h2>
                {areGraded ? (
                  <LineChart title="Training reward" lines={curves('reward')} />
                ) : (
                  <LineChart title="Training loss" lines={curves('loss')} />
                )}
                {[...read.values()].some(({ evaluations }) => evaluations.length > 0) && (
                  <LineChart
                    title={areGraded ? 'Held-out reward' : 'Held-out loss'}
                    lines={lines((history, index, label) =>
                      evaluationLine(history, label, seriesColor(index), areGraded ? 'reward' : 'loss'),
                    )}
                  />
                )}
                <LineChart title="Learning rate" lines={curves('learning_rate')} />
                <LineChart title="Gradient norm" lines={curves('grad_norm')} />
                <LineChart title="Tokens/s" lines={curves('tokens_per_second')} />
              </section>
            </>
          );
        }}
      </Loaded>
    </>
  );
}

function JobName({ id, name, color }: { id: string; name: string; color: number }) {
  return (
    <>
      <span class={`series-mark series-${color}`} aria-hidden="true" />{' '}
      <Link to="/jobs/:id" params={{ id }}>
        {name}
      </Link>
    </>
  );
}

function lossText(history: JobHistory | undefined): string {
  const loss = history?.lastStep?.loss;
  return loss === undefined ? '–' : numberText(loss);
}

function bestText(history: JobHistory | undefined): string {
  const best = history?.bestEvaluation;
  if (!best) return '–';
  const value = best.group === undefined ? `loss ${numberText(best.loss)}` : `reward ${numberText(rewardOf(best))}`;
  return `${value} at step ${best.step}`;
}

function settingsText(job: Job | undefined): string {
  if (job === undefined) return '–';
  const { lora, training } = job;
  return `r ${lora.r}, alpha ${lora.alpha}, rate ${numberText(training.learning_rate)}, batch ${training.batch_size}`;
}
