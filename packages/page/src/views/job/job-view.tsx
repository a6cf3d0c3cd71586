import { stateText, worseOnHeldOutRows, worseText } from '@lorasmith/client/core';
import { ENDED_STATUSES, type Job, type Report, type Sweep } from '@lorasmith/contracts';
import { useEffect, useRef } from 'preact/hooks';
import { numberText } from '../../charts/number-text.js';
import { ErrorNotice } from '../../components/error-notice.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { type Tab, Tabs } from '../../components/tabs.js';
import { notify } from '../../components/toasts.js';
import { ViewHead } from '../../components/view-head.js';
import { hasRewards, type JobHistory } from '../../history/job-history.js';
import { type FollowedHistory, useJobHistory } from '../../history/use-job-history.js';
import { pathOf } from '../../route.js';
import { useClient } from '../../service/service.js';
import { type Polled, usePolled } from '../../service/use-polled.js';
import { OwnDetails } from '../details/own-details.js';
import { mayResume } from '../sweeps/rungs.js';
import type { ViewProps } from '../view.js';
import { AnswersCard } from './answers-card.js';
import { CheckpointsCard } from './checkpoints-card.js';
import { EventLog } from './event-log.js';
import { JobActions } from './job-actions.js';
import { JobBadge } from './job-badge.js';
import { JobFailureNotice, Remedies } from './job-failure.js';
import { JobProgress } from './job-progress.js';
import { lowerRate } from './job-remedies.js';
import { JobSubtitle } from './job-subtitle.js';
import { JobSummary } from './job-summary.js';
import { ReportCard, Warnings } from './report-card.js';
import { SamplesCard } from './samples-card.js';
import { SettingsCard } from './settings-card.js';
import { SweepNote } from './sweep-note.js';
import { TrainingCharts } from './training-charts.js';
import { useSweepOf } from './use-sweep-of.js';

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
