import { ACTIVE_STATUSES, ENDED_STATUSES, type Job } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { ConfirmDialog } from '../../components/dialog.js';
import { ErrorNotice, FaultList } from '../../components/error-notice.js';
import { NoticeButton, notify } from '../../components/notices.js';
import { Link, navigate } from '../../location.js';
import { Allowed, useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { mayGetFurther, type Remedy, remediesOf } from './job-remedies.js';

export interface JobActionsProps {
  job: Job;
  /** True if resuming it would let it train. */
  mayResume: boolean;
  /** Reads the job again. */
  refresh: () => void;
}

const RESUMABLE_STATUSES: readonly Job['status'][] = ['failed', 'cancelled', 'paused'];

/** The actions on a job in its state. */
export function JobActions({ job, mayResume, refresh }: JobActionsProps) {
  const client = useClient();
  const may = useMay('change');
  const [asked, ask] = useState<'cancel' | 'delete' | null>(null);
  const cancel = useAction(async (signal) => {
    const { status } = await client.cancelJob(job.id, { signal });
    ask(null);
    notify(status === 'cancelled' ? 'The job is cancelled.' : 'The job is cancelled once its worker has stopped.');
    refresh();
  });
  const pause = useAction(async (signal) => {
    const { status } = await client.pauseJob(job.id, { signal });
    notify(status === 'paused' ? 'The job is paused.' : 'The job is paused once its step is done.');
    refresh();
  });
  const resume = useAction(async (signal) => {
    await client.resumeJob(job.id, { signal });
    notify('The job is queued again. It continues from its last checkpoint.');
    refresh();
  });
  const remove = useAction(async (signal) => {
    await client.deleteJob(job.id, { signal });
    notify('The job is deleted.');
    navigate('/jobs');
  });
  const hasEnded = ENDED_STATUSES.includes(job.status);
  return (
    <div class="buttons">
      {job.adapter !== null && (
        <>
          {may && (
            <Link to="/chat" query={{ model: job.adapter }} class="button primary">
              Chat
            </Link>
          )}
          <Link to="/adapters/:id" params={{ id: job.adapter }} class="button">
            See the adapter
          </Link>
        </>
      )}
      {!hasEnded && <NoticeButton job={job.id} />}
      {may && job.kind === 'train' && ACTIVE_STATUSES.includes(job.status) && (
        <button type="button" disabled={pause.isBusy} onClick={() => pause.run()}>
          Pause
        </button>
      )}
      {may && mayResume && RESUMABLE_STATUSES.includes(job.status) && mayGetFurther(job) && (
        <button
          type="button"
          class={remediesOf(job).length === 0 ? 'primary' : undefined}
          disabled={resume.isBusy}
          onClick={() => resume.run()}
        >
          Resume
        </button>
      )}
      {may && job.kind === 'train' && (
        <Link to="/new-job" query={{ from: job.id }} class="button">
          Like this
        </Link>
      )}
      {may && hasEnded && (
        <button type="button" class="danger" onClick={() => ask('delete')}>
          Delete
        </button>
      )}
      {may && !hasEnded && (
        <button type="button" class="danger" onClick={() => ask('cancel')}>
          Cancel the job
        </button>
      )}
      <ErrorNotice error={pause.error} what="The job was not paused" />
      <ErrorNotice error={resume.error} what="The job was not resumed" />
      {asked === 'cancel' && (
        <ConfirmDialog title="Cancel this job?" confirm="Cancel the job" action={cancel} onClose={() => ask(null)}>
          <p>It stops after its current step. It can be resumed from its last checkpoint.</p>
        </ConfirmDialog>
      )}
      {asked === 'delete' && (
        <ConfirmDialog title="Delete this job?" confirm="Delete the job" action={remove} onClose={() => ask(null)}>
          <p>Its record, events and checkpoints are deleted. Its adapter stays.</p>
        </ConfirmDialog>
      )}
    </div>
  );
}

/** The reason why a job failed, and the jobs to start instead, where settings can be changed so that it may not fail. */
export function JobFailureNotice({ job }: { job: Job }) {
  const { error } = job;
  if (error === null) return null;
  return (
    <div class="notice notice-error">
      <p class="notice-title">{error.message}</p>
      <FaultList faults={error.details} />
      <p class="fine-print">
        <code>{error.code}</code>
      </p>
      <Remedies job={job} remedies={remediesOf(job)} />
    </div>
  );
}

/** Links to the form of a job like this one, with other settings, the best first. */
export function Remedies({ job, remedies }: { job: Job; remedies: readonly Remedy[] }) {
  if (remedies.length === 0) return null;
  return (
    <Allowed to="change">
      <div class="buttons">
        {remedies.map(({ label, changes }, index) => (
          <Link
            key={label}
            to="/new-job"
            query={{ from: job.id, ...changes }}
            class={index === 0 ? 'button primary' : 'button'}
          >
            {label}
          </Link>
        ))}
      </div>
    </Allowed>
  );
}
