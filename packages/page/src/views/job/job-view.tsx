import { durationText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { ENDED_STATUSES, specOf } from '@lorasmith/contracts';
import { useEffect, useRef } from 'preact/hooks';
import { CodeBlock } from '../../components/copy-button.js';
import { ErrorNotice, FaultList } from '../../components/error-notice.js';
import { Facts } from '../../components/facts.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status-badge.js';
import { notify } from '../../components/toasts.js';
import { ViewHead } from '../../components/view-head.js';
import type { JobHistory } from '../../history/job-history.js';
import { useJobHistory } from '../../history/use-job-history.js';
import { useClient } from '../../service/service.js';
import { type Polled, usePolled } from '../../service/use-polled.js';
import type { ViewProps } from '../view.js';
import { CheckpointsCard } from './checkpoints-card.js';
import { EventLog } from './event-log.js';
import { JobActions } from './job-actions.js';
import { JobProgress } from './job-progress.js';
import { ReportCard, Warnings } from './report-card.js';
import { SamplesCard } from './samples-card.js';
import { TrainingCharts } from './training-charts.js';

const INTERVAL_MS = 3_000;

/** A job: what it does, how far it is, what it learned. */
export function JobView({ params, query }: ViewProps) {
  const id = params.id!;
  const client = useClient();
  const job = usePolled((signal) => client.getJob(id, { signal }), [client, id], {
    everyMs: ({ status }) => (ENDED_STATUSES.includes(status) ? null : INTERVAL_MS),
  });
  return (
    <>
      <ViewHead title={job.value?.name ?? id} />
      <Loaded from={job} what="the job">
        {(value) => <JobBody job={value} polled={job} query={query} />}
      </Loaded>
    </>
  );
}

function JobBody({ job, polled, query }: { job: Job; polled: Polled<Job>; query: URLSearchParams }) {
  const { history, error } = useJobHistory(job.id, job.resumes);
  // The events say first that something has changed.
  const lastNoted = history.noted.at(-1)?.id;
  useEffect(polled.refresh, [lastNoted]);
  useAnnouncedStatus(job);
  const report = job.report ?? history.report;
  return (
    <>
      <section class="card" aria-label="State">
        <p>
          <StatusBadge status={job.status} />{' '}
          {job.kind === 'publish-checkpoint' && (
            <>
              publishes the checkpoint of step {job.checkpoint.step} of{' '}
              <Link to="/jobs/:id" params={{ id: job.checkpoint.job }}>
                {job.checkpoint.job}
              </Link>
            </>
          )}
        </p>
        {job.error !== null && (
          <div class="notice notice-error">
            <p class="notice-title">{job.error.message}</p>
            <FaultList faults={job.error.details} />
            <p class="fine-print">
              <code>{job.error.code}</code>
            </p>
          </div>
        )}
        <JobProgress job={job} history={history} />
        <JobActions job={job} refresh={polled.refresh} />
      </section>
      <ErrorNotice error={error} what="The events of the job cannot be read" />
      {report !== null && <Warnings report={report} />}
      {job.kind === 'train' && <Curves history={history} />}
      {job.samples !== null && (
        <SamplesCard prompts={job.samples.prompts} rounds={history.sampleRounds} chosenStep={query.get('sample')} />
      )}
      {report !== null && <ReportCard report={report} />}
      {job.kind === 'train' && <CheckpointsCard job={job} savedCount={countSaved(history)} />}
      <EventLog events={history.noted} />
      <section class="card">
        <h2>Settings</h2>
        <Facts
          entries={[
            ['Id', <code key="id">{job.id}</code>],
            [
              'Base model',
              <Link key="model" to="/models/:name" params={{ name: job.base_model }}>
                {job.base_model}
              </Link>,
            ],
            [
              'Dataset',
              <Link key="dataset" to="/datasets/:id" params={{ id: job.dataset }}>
                <code>{job.dataset}</code>
              </Link>,
            ],
            ['Priority', job.priority],
            ['Created', <Moment key="created" at={job.created_at} />],
            ['Started', job.started_at && <Moment at={job.started_at} />],
            ['Ended', job.ended_at && <Moment at={job.ended_at} />],
            ['Took', job.started_at && job.ended_at && durationText(secondsBetween(job.started_at, job.ended_at))],
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
    </>
  );
}

function Curves({ history }: { history: JobHistory }) {
  const { firstStep } = history;
  const isCut = firstStep !== null && firstStep > 1;
  return (
    <>
      {isCut && (
        <p class="muted">
          The service keeps the latest events of a job. The curves begin at step {firstStep.toLocaleString('en-US')}.
        </p>
      )}
      <TrainingCharts history={history} />
    </>
  );
}

function secondsBetween(start: string, end: string): number {
  return (Date.parse(end) - Date.parse(start)) / 1000;
}

function countSaved({ noted }: JobHistory): number {
  return noted.filter(({ type }) => type === 'checkpoint-saved').length;
}

/** Says when the job ends or starts while somebody watches it. */
function useAnnouncedStatus({ status, name, id }: Job): void {
  const last = useRef(status);
  useEffect(() => {
    if (last.current !== status) notify(`${name ?? id} is now ${status}.`);
    last.current = status;
  }, [status]);
}
