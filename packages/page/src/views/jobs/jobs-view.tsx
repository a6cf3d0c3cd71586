import { durationText } from '@lorasmith/client/core';
import { ENDED_STATUSES, JOB_STATUSES, type Job, type JobStatus, UNFINISHED_STATUSES } from '@lorasmith/contracts';
import { useEffect, useRef } from 'preact/hooks';
import { type Column, DataTable } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status-badge.js';
import { nextSort, type Sort, sortOf } from '../../components/table-sort.js';
import { ViewHead } from '../../components/view-head.js';
import { changeQuery } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { chosenJobs, MAX_COMPARED, toggledJob } from '../compare/chosen-jobs.js';
import { FirstAdapter } from '../first-adapter/first-adapter.js';
import { QueuePlace } from '../job/job-progress.js';
import { secondsOf, tookText } from '../job/took-text.js';
import type { ViewProps } from '../view.js';
import { LossLine } from './loss-line.js';

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
  const search = query.get('q') ?? '';
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
      sortBy: ({ id, name }) => name ?? id,
      cell: ({ id, name }) => (
        <Link to="/jobs/:id" params={{ id }}>
          {name ?? id}
        </Link>
      ),
    },
    { title: 'State', sortBy: ({ status }) => status, cell: (job) => <StatusBadge status={job.status} /> },
    { title: 'Progress', sortBy: progressOf, cell: (job) => <Progress job={job} /> },
    { title: 'Loss', cell: ({ id, kind, status }) => kind === 'train' && status !== 'queued' && <LossLine id={id} /> },
    { title: 'Base model', sortBy: (job) => job.base_model, cell: (job) => job.base_model },
    {
      title: 'Took',
      isNumber: true,
      sortBy: secondsOf,
      cell: (job) => ENDED_STATUSES.includes(job.status) && tookText(job),
    },
    { title: 'When', sortBy: whenOf, cell: (job) => <Moment at={whenOf(job)} /> },
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
        <Allowed to="change">
          <Link to="/new-job" class="button primary">
            New job
          </Link>
        </Allowed>
      </ViewHead>
      <div class="filters">
        <SearchField search={search} />
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
      </div>
      <Loaded from={jobs} what="the jobs">
        {({ data, next, has_more: hasMore }) => (
          <>
            <JobTable
              jobs={data.filter((job) => isFound(job, search))}
              columns={columns}
              sort={sortOf(query.get('sort'))}
              isFiltered={status !== undefined || after !== undefined || data.length > 0}
            />
            <div class="buttons">
              {after !== undefined && (
                <Link
                  to="/jobs"
                  query={{ status, sort: query.get('sort') ?? undefined, compare: chosen.join() }}
                  class="button"
                >
                  Newest jobs
                </Link>
              )}
              {hasMore && next !== null && (
                <Link
                  to="/jobs"
                  query={{ status, after: next, sort: query.get('sort') ?? undefined, compare: chosen.join() }}
                  class="button"
                >
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

/** Finds among the jobs that are listed. `/` leads to it. */
function SearchField({ search }: { search: string }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const lead = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLElement && event.target.matches('input, select, textarea');
      if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener('keydown', lead);
    return () => document.removeEventListener('keydown', lead);
  }, []);
  return (
    <label>
      Find{' '}
      <input
        ref={input}
        type="search"
        placeholder="name, model or id"
        aria-keyshortcuts="/"
        value={search}
        onInput={({ currentTarget }) => changeQuery({ q: currentTarget.value })}
      />
    </label>
  );
}

const whenOf = ({ ended_at: ended, created_at: created }: Job) => ended ?? created;

/** The share of its steps that a job has done; null before the first. */
function progressOf({ progress }: Job): number | null {
  return progress === null ? null : progress.step / progress.total_steps;
}

/** Whether a job has the text in its name, model, dataset or id. */
function isFound({ id, name, base_model: model, dataset }: Job, search: string): boolean {
  const text = search.trim().toLowerCase();
  return [id, name ?? '', model, dataset].some((one) => one.toLowerCase().includes(text));
}

function Progress({ job }: { job: Job }) {
  const { status, progress, error, report } = job;
  if (status === 'queued') return <Waiting id={job.id} />;
  if (status === 'failed') return <span title={error?.message}>{error?.message}</span>;
  if (progress === null) return <>{report === null ? '' : `${report.steps.total} steps`}</>;
  const { step, total_steps, seconds_left } = progress;
  return (
    <span>
      {status === 'running' && <progress value={step} max={total_steps} aria-label={`${job.name ?? job.id}`} />} {step}/
      {total_steps}
      {status === 'running' && seconds_left !== null && `, ${durationText(seconds_left)} left`}
    </span>
  );
}

/** The place of a waiting job: only the answer for a single job has it. */
function Waiting({ id }: { id: string }) {
  const client = useClient();
  const { value } = usePolled((signal) => client.getJob(id, { signal }), [client, id], { everyMs: QUEUE_MS });
  return value === undefined ? null : <QueuePlace job={value} />;
}

interface JobTableProps {
  jobs: readonly Job[];
  columns: readonly Column<Job>[];
  sort: Sort | null;
  /** Whether there may be other jobs. */
  isFiltered: boolean;
}

function JobTable({ jobs, columns, sort, isFiltered }: JobTableProps) {
  if (jobs.length > 0) {
    return (
      <DataTable
        caption={sort === null ? 'Jobs, newest first' : `Jobs, by ${sort.title}`}
        columns={columns}
        rows={jobs}
        keyOf={({ id }) => id}
        sort={sort}
        onSort={(title) => changeQuery({ sort: nextSort(sort, title) })}
      />
    );
  }
  if (isFiltered) return <p class="muted">No job matches.</p>;
  return <FirstAdapter text="There are no jobs yet." />;
}
