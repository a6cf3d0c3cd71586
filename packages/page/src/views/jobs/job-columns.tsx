import { durationText, stateText, sweepProgressText } from '@lorasmith/client/core';
import { ENDED_STATUSES, type Job, type Sweep } from '@lorasmith/contracts';
import { numberText } from '../../charts/number-text.js';
import type { Column } from '../../components/data-table.js';
import { Link } from '../../components/link.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status-badge.js';
import { TagList } from '../../components/tag-list.js';
import { changeQuery } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { QueuePlace, WaitReason } from '../job/job-progress.js';
import { tookText } from '../job/took-text.js';
import { fieldLabel } from '../sweeps/sweep-fields.js';
import type { JobRow } from './job-rows.js';
import { toggled } from './jobs-address.js';
import { LossLine } from './loss-line.js';

/** Each waiting job is asked for by itself. */
const QUEUE_MS = 10_000;

export interface JobColumnsOptions {
  /** The sweeps of the page; null: it was deleted. */
  sweeps: ReadonlyMap<string, Sweep | null>;
  open: readonly string[];
  /** Paths of settings. */
  settings: readonly string[];
  chosen: readonly string[];
  toggle: (id: string) => void;
  isFull: boolean;
}

/** The columns of the list. The service sorts by those that are sortable. */
export function jobColumns(options: JobColumnsOptions): Column<JobRow>[] {
  const { sweeps, open, settings, chosen, toggle, isFull } = options;
  const isSortable = true;
  return [
    {
      title: 'Job',
      isSortable,
      cell: (row) =>
        row.kind === 'sweep' ? (
          <SweepName row={row} sweep={sweeps.get(row.sweep)} open={open} />
        ) : (
          <JobName row={row} />
        ),
    },
    {
      title: 'State',
      isSortable,
      cell: (row) => {
        const sweep = row.kind === 'sweep' ? sweeps.get(row.sweep) : null;
        return sweep ? (
          <StatusBadge status={sweep.status} />
        ) : (
          <StatusBadge status={row.job.status} word={stateText(row.job)} />
        );
      },
    },
    {
      title: 'Progress',
      isSortable,
      cell: (row) => {
        if (row.kind !== 'sweep') return <Progress job={row.job} />;
        const sweep = sweeps.get(row.sweep);
        return sweep ? <span title={sweepProgressText(sweep)}>{sweepProgressText(sweep)}</span> : null;
      },
    },
    {
      title: 'Loss',
      cell: ({ kind, job }) =>
        kind !== 'sweep' && job.kind === 'train' && job.status !== 'queued' && <LossLine id={job.id} />,
    },
    { title: 'Base model', isSortable, cell: ({ job }) => job.base_model },
    ...settings.map((path) => ({
      title: fieldLabel(path),
      isSortable,
      cell: ({ kind, job }: JobRow) => (kind === 'sweep' ? null : settingText(job, path)),
    })),
    {
      title: 'Took',
      isNumber: true,
      isSortable,
      cell: ({ kind, job }) => kind !== 'sweep' && ENDED_STATUSES.includes(job.status) && tookText(job),
    },
    { title: 'When', isSortable, cell: ({ job }) => <Moment at={job.ended_at ?? job.created_at} /> },
    {
      title: 'Choose',
      cell: ({ kind, job: { id, name } }) =>
        kind !== 'sweep' && (
          <input
            type="checkbox"
            aria-label={`Choose ${name ?? id}`}
            checked={chosen.includes(id)}
            disabled={!chosen.includes(id) && isFull}
            onChange={() => toggle(id)}
          />
        ),
    },
  ];
}

function JobName({ row: { kind, job } }: { row: JobRow }) {
  return (
    <span title={job.name ?? job.id}>
      <Link to="/jobs/:id" params={{ id: job.id }}>
        {job.name ?? job.id}
      </Link>
      {kind === 'job' && job.sweep !== undefined && <span class="muted"> variant {job.sweep.variant}</span>}
      <TagList tags={job.tags} to="/jobs" />
    </span>
  );
}

interface SweepNameProps {
  row: Extract<JobRow, { kind: 'sweep' }>;
  /** Undefined until it is read; null once it was deleted. */
  sweep: Sweep | null | undefined;
  open: readonly string[];
}

function SweepName({ row: { sweep: id, isOpen }, sweep, open }: SweepNameProps) {
  const name = sweep?.name ?? id;
  return (
    <span title={name}>
      <button
        type="button"
        class="disclosure"
        aria-expanded={isOpen}
        aria-label={`Variants of ${name}`}
        onClick={() => changeQuery({ open: toggled(open, id) })}
      >
        <span aria-hidden="true">{isOpen ? '▾' : '▸'}</span>
      </button>
      <span>
        {sweep === null ? (
          <>a deleted sweep</>
        ) : (
          <Link to="/sweeps/:id" params={{ id }}>
            {name}
          </Link>
        )}{' '}
        <span class="muted">sweep</span>
      </span>
    </span>
  );
}

function settingText(job: Job, path: string): string {
  let value: unknown = job;
  for (const name of path.split('.')) value = (value as Record<string, unknown> | undefined)?.[name];
  return value === null || value === undefined ? '–' : typeof value === 'number' ? numberText(value) : String(value);
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

/** The place of a waiting job, and of the next one why it waits: only the answer for a single job has these. */
function Waiting({ id }: { id: string }) {
  const client = useClient();
  const { value } = usePolled((signal) => client.getJob(id, { signal }), [client, id], { everyMs: QUEUE_MS });
  if (value === undefined) return null;
  return (
    <>
      <QueuePlace job={value} />
      {value.queue?.ahead === 0 && <WaitReason job={value} />}
    </>
  );
}
