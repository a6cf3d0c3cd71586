import type { Job } from '@lorasmith/contracts';
import { FaultList } from '../../components/error-notice.js';
import { Link } from '../../components/link.js';
import { Allowed } from '../../service/role.js';
import { type Remedy, remediesOf } from './job-remedies.js';

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
