import { countText, eventText, stateText, worseOnHeldOutRows, worseText } from '@lorasmith/client/core';
import { ENDED_STATUSES, type Job, type Report, type Sweep } from '@lorasmith/contracts';
import { useEffect, useRef } from 'preact/hooks';
import { numberText } from '../../charts/chart-values.js';
import { ScrollRegion } from '../../components/data-table.js';
import { ErrorNotice, Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { StatusBadge } from '../../components/status.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { hasRewards, type JobHistory, type NotedEvent } from '../../history/job-history.js';
import { type FollowedHistory, useJobHistory } from '../../history/use-job-history.js';
import { Link, type Tab, Tabs } from '../../location.js';
import { pathOf } from '../../route.js';
import { nullIf, useClient } from '../../service/service.js';
import { type Polled, usePolled } from '../../service/use-polled.js';
import { OwnDetails } from '../own-details.js';
import { mayResume, rungText, variantText, variedFields, waitsAtStep } from '../sweeps/sweep-variants.js';
import { AnswersCard, SamplesCard } from './answers-card.js';
import { CheckpointsCard } from './checkpoints-card.js';
import { JobActions, JobFailureNotice, Remedies } from './job-actions.js';
import { JobProgress } from './job-progress.js';
import { lowerRate } from './job-remedies.js';
import { JobSubtitle, JobSummary, SettingsCard } from './job-summary.js';
import { ReportCard, Warnings } from './report-card.js';
import { TrainingCharts } from './training-charts.js';

const INTERVAL_MS = 3_000;

/** A job: whether it learned, and what can be done with it. */
export function JobView({ params, query }: ViewProps) {
  const id = params.id!;
  const client = useClient();
  const job = usePolled((signal) => client.getJob(id, { signal }), [client, id], {
    everyMs: ({ status }) => (ENDED_STATUSES.includes(status) ? null : INTERVAL_MS),
  });
  const sweep = useSweepOf(job.value);
  const followed = useJobHistory(id, job.value?.resumes);
  return (
    <>
      <ViewHead
        title={job.value?.name ?? id}
        badge={job.value && <JobBadge job={job.value} history={followed.history} />}
      >
        {job.value && <JobActions job={job.value} mayResume={mayResume(job.value, sweep)} refresh={job.refresh} />}
      </ViewHead>
      <Loaded from={job} what="the job">
        {(value) => <JobBody job={value} followed={followed} sweep={sweep} polled={job} query={query} />}
      </Loaded>
    </>
  );
}

interface JobBodyProps {
  job: Job;
  followed: FollowedHistory;
  /** Null without one; undefined until it is read. */
  sweep: Sweep | null | undefined;
  polled: Polled<Job>;
  query: URLSearchParams;
}

function JobBody({ job, followed: { history, error }, sweep, polled, query }: JobBodyProps) {
  // The events say first that something has changed.
  const lastNoted = history.noted.at(-1)?.id;
  useEffect(polled.refresh, [lastNoted]);
  useAnnouncedStatus(job);
  const report = job.report ?? history.report;
  const client = useClient();
  return (
    <>
      <section class="job-state" aria-label="State">
        <JobSubtitle job={job} />
        <OwnDetails
          what="job"
          list="/jobs"
          details={job}
          change={(details, call) => client.changeJob(job.id, details, call)}
          refresh={polled.refresh}
        />
        {job.kind === 'publish-checkpoint' && (
          <p>
            It publishes the checkpoint of step {job.checkpoint.step} of{' '}
            <Link to="/jobs/:id" params={{ id: job.checkpoint.job }}>
              {job.checkpoint.job}
            </Link>
            .
          </p>
        )}
        <SweepNote job={job} sweep={sweep} />
        <JobFailureNotice job={job} />
        <WorseNotice job={job} history={history} />
        <JobProgress job={job} history={history} />
      </section>
      {job.kind === 'train' && <JobSummary job={job} history={history} />}
      <ErrorNotice error={error} what="The events of the job cannot be read" />
      {job.kind === 'train' && <Curves history={history} report={report} query={query} />}
      {report !== null && <Warnings report={report} />}
      <Tabs
        label="Parts of the job"
        tabs={partsOf(job, report, history, query)}
        path={pathOf('/jobs/:id', { id: job.id })}
        query={query}
      />
    </>
  );
}

/** A warning that the job makes its model worse, with a job that may not. */
function WorseNotice({ job, history }: { job: Job; history: JobHistory }) {
  const worse = worseOnHeldOutRows(history.evaluations, history.publishedStep);
  if (worse === null) return null;
  return (
    <div class="notice notice-warning">
      <p>{worseText(worse, numberText)}</p>
      <Remedies job={job} remedies={[lowerRate(job)]} />
    </div>
  );
}

function partsOf(job: Job, report: Report | null, history: JobHistory, query: URLSearchParams): Tab[] {
  const { samples } = job;
  const prompted = samples !== null && {
    name: 'samples',
    label: 'Samples',
    content: () => (
      <SamplesCard prompts={samples.prompts} rounds={history.sampleRounds} chosenStep={query.get('sample')} />
    ),
  };
  const graded = hasRewards(job) && {
    name: 'answers',
    label: 'Answers',
    content: () => <AnswersCard rounds={history.answerRounds} chosenStep={query.get('answers')} />,
  };
  const settings = {
    name: 'settings',
    label: 'Settings and report',
    content: () => (
      <>
        {report !== null && <ReportCard report={report} />}
        <SettingsCard job={job} />
      </>
    ),
  };
  const checkpoints = job.kind === 'train' && {
    name: 'checkpoints',
    label: 'Checkpoints',
    content: () => <CheckpointsCard job={job} lastSaved={history.lastSaved} />,
  };
  const events = { name: 'events', label: 'Events', content: () => <EventLog events={history.noted} /> };
  return [graded, prompted, settings, checkpoints, events].filter((tab) => tab !== false);
}

function Curves({ history, report, query }: { history: JobHistory; report: Report | null; query: URLSearchParams }) {
  const { firstStep } = history;
  const isCut = firstStep !== null && firstStep > 1;
  return (
    <>
      <TrainingCharts history={history} report={report} query={query} />
      {isCut && (
        <p class="muted">
          The service keeps the latest events of a job. The curves begin at step {firstStep.toLocaleString('en-US')}.
        </p>
      )}
    </>
  );
}

/** Says when the job ends or starts while somebody watches it. */
function useAnnouncedStatus(job: Job): void {
  const { status, name, id } = job;
  const last = useRef(status);
  useEffect(() => {
    if (last.current !== status) notify(`${name ?? id} is now ${stateText(job)}.`);
    last.current = status;
  }, [status]);
}

interface JobBadgeProps {
  job: Job;
  history: JobHistory;
}

/** The state of a job, and a warning if it made its model worse. */
function JobBadge({ job, history }: JobBadgeProps) {
  const { status } = job;
  const isWorse = status === 'succeeded' && worseOnHeldOutRows(history.evaluations, history.publishedStep) !== null;
  return (
    <>
      <StatusBadge status={status} word={stateText(job)} />
      {isWorse && <span class="badge badge-warning">worse than its base model</span>}
    </>
  );
}

/** The sweep that a job belongs to, and whether the job waits for the other variants. Nothing for other jobs. */
function SweepNote({ job, sweep }: { job: Job; sweep: Sweep | null | undefined }) {
  if (job.sweep === undefined) return null;
  const { id, variant: number } = job.sweep;
  if (sweep === null) return <p>It is variant {number} of a sweep that was deleted.</p>;
  const variant = sweep?.variants.find((one) => one.variant === number);
  const step = sweep && variant ? waitsAtStep(sweep, variant) : null;
  const decided = sweep && variant && step === null ? rungText(sweep, variant) : '';
  return (
    <>
      <p>
        It is variant {number} of the sweep{' '}
        <Link to="/sweeps/:id" params={{ id }}>
          {sweep?.name ?? id}
        </Link>
        {sweep && variant && ` (${variantText(variedFields(sweep), variant)})`}
        {decided !== '' && `: ${decided}`}.
      </p>
      {step !== null && (
        <p class="notice" role="status">
          It waits at step {countText(step)} for the other variants of its sweep. Then the better half goes on by
          itself.
        </p>
      )}
    </>
  );
}

const PAUSED_MS = 3_000;

/** The sweep that made a job; null without one, and once its record was deleted; undefined until it is read. It is read again when the state of the job changes. */
function useSweepOf(job: Job | undefined): Sweep | null | undefined {
  const client = useClient();
  const id = job?.sweep?.id;
  const { value } = usePolled(
    async (signal) => ({
      of: id,
      sweep: id === undefined ? null : await client.getSweep(id, { signal }).catch(nullIf('sweep_not_found')),
    }),
    [client, id, job?.status],
    { everyMs: ({ sweep }) => (sweep !== null && job?.status === 'paused' ? PAUSED_MS : null) },
  );
  // What was read before the job was known stays for one rendering.
  return value?.of === id ? value?.sweep : undefined;
}

/** The events, the latest first. Steps are in the curves. */
function EventLog({ events }: { events: readonly NotedEvent[] }) {
  return (
    <section class="card">
      <h2>Events</h2>
      <ScrollRegion label="List of events" class="event-log">
        <ul>
          {events.toReversed().map((event) => (
            <li key={event.id}>
              <Moment at={event.created_at} isExact /> <span>{textOf(event)}</span>
            </li>
          ))}
        </ul>
      </ScrollRegion>
    </section>
  );
}

function textOf(event: NotedEvent): string {
  switch (event.type) {
    case 'report-ready':
      return 'the report is ready';
    case 'checkpoint-saved':
      return `checkpoint after step ${event.data.step}`;
    case 'job-started':
      return `${eventText(event)[0]} on ${event.data.worker}`;
    default:
      return (eventText(event)[0] ?? event.type).replace(/:$/, '');
  }
}
