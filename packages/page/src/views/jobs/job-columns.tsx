import { durationText, stateText, sweepProgressText, worseOnHeldOutRows } from '@lorasmith/client/core';
import { ENDED_STATUSES, type Job, type Sweep } from '@lorasmith/contracts';
import { changeText, numberText } from '../../charts/chart-values.js';
import type { Column } from '../../components/data-table.js';
import { TagList } from '../../components/list.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status.js';
import { lossesOf, rewardsOf } from '../../history/job-history.js';
import { useJobHistories } from '../../history/use-job-history.js';
import { changeQuery, Link } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { QueuePlace, tookText, WaitReason } from '../job/job-progress.js';
import { fieldLabel } from '../sweeps/sweep-variants.js';
import { toggled } from './jobs-address.js';

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

/** The position of a waiting job, and of the next one why it waits: only the answer for a single job has these. */
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

const [WIDTH, HEIGHT] = [72, 24];
const MAX_POINTS = 72;

/** The loss of a job as a small line, or its reward where answers are graded, with the first and last value: of the held-out rows where there are any. */
function LossLine({ id }: { id: string }) {
  const history = useJobHistories([id]).value?.get(id);
  if (history === undefined) return null;
  const { curves, evaluations, lastStep } = history;
  const isGraded = lastStep?.group !== undefined;
  const text = changeText(isGraded ? rewardsOf(history) : lossesOf(history));
  if (text === '') return null;
  const isWorse = worseOnHeldOutRows(evaluations, history.publishedStep) !== null;
  return (
    <span
      class="loss-line"
      title={`${isGraded ? 'Reward' : 'Loss'} of ${evaluations.length > 0 ? 'the held-out rows' : 'the training'}`}
    >
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} aria-hidden="true">
        <polyline points={pointsOf((isGraded ? curves.reward : curves.loss).points().mean)} />
      </svg>
      {isGraded && 'reward '}
      {text}
      {isWorse && <span class="badge badge-warning">worse</span>}
    </span>
  );
}

/** The points of an SVG polyline, from edge to edge. */
function pointsOf(values: readonly number[]): string {
  const every = Math.max(1, Math.ceil(values.length / MAX_POINTS));
  const shown = values.filter((_, index) => index % every === 0 || index === values.length - 1);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const height = high === low ? 1 : high - low;
  return shown
    .map((value, index) => {
      const x = (index / Math.max(1, shown.length - 1)) * (WIDTH - 2) + 1;
      const y = HEIGHT - 2 - ((value - low) / height) * (HEIGHT - 4);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(' ');
}

/** A row of the list: a job, one of the variants under its sweep, or a sweep, with the first of its jobs. */
export type JobRow =
  | { kind: 'job' | 'variant'; job: Job }
  | { kind: 'sweep'; job: Job; sweep: string; isOpen: boolean };

/**
 * The rows of a page, on which a job of a sweep stands for its sweep.
 * @param variants - The jobs of the sweeps that are open.
 */
export function rowsOf(
  jobs: readonly Job[],
  open: readonly string[],
  variants: ReadonlyMap<string, readonly Job[]>,
): JobRow[] {
  return jobs.flatMap((job): JobRow[] => {
    const sweep = job.sweep?.id;
    if (sweep === undefined) return [{ kind: 'job', job }];
    const isOpen = open.includes(sweep);
    const shown = isOpen ? (variants.get(sweep) ?? []) : [];
    return [{ kind: 'sweep', job, sweep, isOpen }, ...shown.map((one) => ({ kind: 'variant' as const, job: one }))];
  });
}

export function keyOfRow(row: JobRow): string {
  return row.kind === 'sweep' ? row.sweep : row.job.id;
}
