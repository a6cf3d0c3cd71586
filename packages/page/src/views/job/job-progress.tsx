import { countText, durationText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { numberText } from '../../charts/number-text.js';
import { Facts } from '../../components/facts.js';
import { Moment } from '../../components/moment.js';
import type { JobHistory } from '../../history/job-history.js';

/** Where a job is: in the queue, tokenizing, or at a step. */
export function JobProgress({ job, history }: { job: Job; history: JobHistory }) {
  const { lastStep, tokenizing } = history;
  if (job.status === 'queued') return <QueuePlace job={job} />;
  if (tokenizing !== null && job.status === 'preparing') {
    const { rows, total_rows } = tokenizing;
    return (
      <Bar label={`${countText(rows)} of ${countText(total_rows)} rows tokenized`} value={rows} max={total_rows} />
    );
  }
  if (lastStep === null)
    return job.status === 'preparing' ? <p>The worker prepares the rows and the base model.</p> : null;
  const { step, total_steps, epoch, loss, learning_rate, grad_norm, tokens_per_second, seconds_left } = lastStep;
  const isRunning = job.status === 'running';
  return (
    <>
      <Bar label={`Step ${countText(step)} of ${countText(total_steps)}`} value={step} max={total_steps} />
      <Facts
        entries={[
          ['Loss', numberText(loss)],
          ['Epoch', epoch.toFixed(2)],
          ['Learning rate', numberText(learning_rate)],
          ['Gradient norm', numberText(grad_norm)],
          ['Tokens/s', numberText(tokens_per_second)],
          ['Time left', isRunning ? durationText(seconds_left) : null],
          ['Expected end', isRunning && job.queue?.estimated_end ? <Moment at={job.queue.estimated_end} /> : null],
        ]}
      />
    </>
  );
}

function Bar({ label, value, max }: { label: string; value: number; max: number }) {
  return (
    <label class="bar">
      <span>
        {label} ({Math.floor((100 * value) / max)} %)
      </span>
      <progress value={value} max={max} />
    </label>
  );
}

/** The place of a waiting job, from an answer of `GET /jobs/:id`. */
export function QueuePlace({ job: { queue } }: { job: Job }) {
  if (queue === undefined || queue === null) return null;
  const { ahead, estimated_start: start, estimated_end: end } = queue;
  return (
    <p>
      {ahead === 0 ? 'Next in the queue' : `${countText(ahead)} ${ahead === 1 ? 'job waits' : 'jobs wait'} before it`}
      {start !== null && (
        <>
          , starts about <Moment at={start} />
        </>
      )}
      {end !== null && (
        <>
          , ends about <Moment at={end} />
        </>
      )}
      .
    </p>
  );
}
