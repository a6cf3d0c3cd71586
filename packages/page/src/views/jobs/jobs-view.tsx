import { durationText } from '@lorasmith/client/core';
import { JOB_STATUSES, type Job, type JobStatus, UNFINISHED_STATUSES } from '@lorasmith/contracts';
import { numberText } from '../../charts/number-text.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status-badge.js';
import { ViewHead } from '../../components/view-head.js';
import { changeQuery } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { chosenJobs, MAX_COMPARED, toggledJob } from '../compare/chosen-jobs.js';
import { QueuePlace } from '../job/job-progress.js';
import type { ViewProps } from '../view.js';

const PAGE = 25;
const MOVING_MS = 2_000;
const STILL_MS = 10_000;
/** Each waiting job is asked for by itself. */
const QUEUE_MS = 10_000;

/** The jobs, newest first, with their state. */
export function JobsView({ query }: ViewProps) {
  const client = useClient();
  const chosen = chosenJobs(query.get('compare'));
  const status = JOB_STATUSES.find((one) => one === query.get('status'));
  const after = query.get('after') ?? undefined;
  const jobs = usePolled(
    (signal) =>
      client.listJobs(
        { limit: PAGE, ...(status === undefined ? {} : { status }), ...(after === undefined ? {} : { after }) },
        { signal },
      ),
    [client, status, after],
    { everyMs: ({ data }) => (data.some((job) => UNFINISHED_STATUSES.includes(job.status)) ? MOVING_MS : STILL_MS) },
  );
  const columns: Column<Job>[] = [
    {
      title: 'Job',
      cell: ({ id, name }) => (
        <Link to="/jobs/:id" params={{ id }}>
          {name ?? id}
        </Link>
      ),
    },
    { title: 'State', cell: (job) => <StatusBadge status={job.status} /> },
    { title: 'Progress', cell: (job) => <Progress job={job} /> },
    { title: 'Base model', cell: (job) => job.base_model },
    { title: 'Created', cell: (job) => <Moment at={job.created_at} /> },
    {
      title: 'Compare',
      cell: ({ id, name, kind }) =>
        kind === 'train' && (
          <input
            type="checkbox"
            aria-label={`Compare ${name ?? id}`}
            checked={chosen.includes(id)}
            disabled={!chosen.includes(id) && chosen.length >= MAX_COMPARED}
            onChange={() => changeQuery({ compare: toggledJob(chosen, id).join() })}
          />
        ),
    },
  ];
  return (
    <>
      <ViewHead title="Jobs">
        <Link to="/compare" query={{ jobs: chosen.join() }} class="button">
          {chosen.length === 0 ? 'Compare jobs' : `Compare ${chosen.length} ${chosen.length === 1 ? 'job' : 'jobs'}`}
        </Link>
        <Link to="/new-job" class="button primary">
          New job
        </Link>
      </ViewHead>
      <label>
        State{' '}
        <select
          value={status ?? ''}
          onChange={({ currentTarget }) => changeQuery({ status: currentTarget.value, after: undefined })}
        >
          <option value="">all</option>
          {JOB_STATUSES.map((one: JobStatus) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </label>
      <Loaded from={jobs} what="the jobs">
        {({ data, next, has_more: hasMore }) => (
          <>
            {data.length === 0 ? (
              <NoJobs isFiltered={status !== undefined || after !== undefined} />
            ) : (
              <DataTable caption="Jobs, newest first" columns={columns} rows={data} keyOf={({ id }) => id} />
            )}
            <div class="buttons">
              {after !== undefined && (
                <Link to="/jobs" query={{ status, compare: chosen.join() }} class="button">
                  Newest jobs
                </Link>
              )}
              {hasMore && next !== null && (
                <Link to="/jobs" query={{ status, after: next, compare: chosen.join() }} class="button">
                  Older jobs
                </Link>
              )}
            </div>
          </>
        )}
      </Loaded>
    </>
  );
}

function Progress({ job }: { job: Job }) {
  const { status, progress, error, report } = job;
  if (status === 'queued') return <Waiting id={job.id} />;
  if (status === 'failed') return <>{error?.message}</>;
  if (progress === null) return <>{report === null ? '' : `${report.steps.total} steps`}</>;
  const { step, total_steps, loss, seconds_left } = progress;
  return (
    <>
      {status === 'running' && <progress value={step} max={total_steps} aria-label={`${job.name ?? job.id}`} />} {step}/
      {total_steps}
      {loss !== null && `, loss ${numberText(loss)}`}
      {status === 'running' && seconds_left !== null && `, ${durationText(seconds_left)} left`}
    </>
  );
}

/** The place of a waiting job: only the answer for a single job has it. */
function Waiting({ id }: { id: string }) {
  const client = useClient();
  const { value } = usePolled((signal) => client.getJob(id, { signal }), [client, id], { everyMs: QUEUE_MS });
  return value === undefined ? null : <QueuePlace job={value} />;
}

function NoJobs({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) return <p class="muted">No job matches.</p>;
  return (
    <p>
      There are no jobs yet. <Link to="/datasets">Upload a dataset</Link>, then <Link to="/new-job">start a job</Link>.
    </p>
  );
}
