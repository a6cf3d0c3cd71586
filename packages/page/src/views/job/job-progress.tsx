import { countText, durationText, queueReasonText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { Moment } from '../../components/moment.js';
import { Bar } from '../../components/status.js';
import type { JobHistory } from '../../history/job-history.js';

/** The progress of an unfinished job: its position in the queue, its tokenized rows, or its step. */
export function JobProgress({ job, history }: { job: Job; history: JobHistory }) {
  const { lastStep, tokenizing, reference } = history;
  if (job.status === 'queued') {
    return (
      <>
        <QueuePlace job={job} />
        <WaitReason job={job} />
      </>
    );
  }
  if (job.status === 'preparing') {
    if (tokenizing === null) return <p>The worker prepares the rows and the base model.</p>;
    const { rows, total_rows } = tokenizing;
    return (
      <Bar label={`${countText(rows)} of ${countText(total_rows)} rows tokenized`} value={rows} max={total_rows} />
    );
  }
  if (job.status === 'running' && reference !== null) {
    const { pairs, total_pairs } = reference;
    const label = `${countText(pairs)} of ${countText(total_pairs)} rows read by the reference`;
    return <Bar label={label} value={pairs} max={total_pairs} />;
  }
  if (lastStep === null || job.status === 'succeeded') return null;
  const { step, total_steps, epoch, seconds_left } = lastStep;
  const isRunning = job.status === 'running';
  return (
    <Bar
      label={`Step ${countText(step)} of ${countText(total_steps)}, epoch ${epoch.toFixed(2)}`}
      value={step}
      max={total_steps}
    >
      {isRunning && <strong>{durationText(seconds_left)} left</strong>}
    </Bar>
  );
}

/** The reason of a waiting job, from an answer of `GET /jobs/:id`; nothing while a worker is free. */
export function WaitReason({ job: { queue } }: { job: Job }) {
  const reason = queue?.reason ?? null;
  return reason === null ? null : <p>Waits: {queueReasonText(reason)}.</p>;
}

/** The position of a waiting job, from an answer of `GET /jobs/:id`. */
export function QueuePlace({ job: { queue } }: { job: Job }) {
  if (queue === undefined || queue === null) return null;
  const { ahead, estimated_start: start, estimated_end: end } = queue;
  return (
    <p>
      {ahead === 0 ? 'Next in the queue' : `${countText(ahead)} ${ahead === 1 ? 'job waits' : 'jobs wait'} before it`}
      {start !== null && (
        <>
          , starts <Moment at={start} />
        </>
      )}
      {end !== null && (
        <>
          , ends <Moment at={end} />
        </>
      )}
      .
    </p>
  );
}

/** The seconds from the start to the end of a job; null if it has not ended. */
function secondsOf({ started_at: started, ended_at: ended }: Job): number | null {
  return started === null || ended === null ? null : (Date.parse(ended) - Date.parse(started)) / 1000;
}

/** The same as text. */
export function tookText(job: Job): string | null {
  const seconds = secondsOf(job);
  return seconds === null ? null : durationText(seconds);
}
