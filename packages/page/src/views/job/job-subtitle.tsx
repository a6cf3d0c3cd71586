import { countText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';
import { ENDED_STATUSES } from '@lorasmith/contracts';
import { Link } from '../../components/link.js';
import { Moment } from '../../components/moment.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { tookText } from './took-text.js';

/** A job in one line: model, dataset, rank, how long it took, when. */
export function JobSubtitle({ job }: { job: Job }) {
  const client = useClient();
  // The dataset may be deleted: then its id is shown.
  const dataset = usePolled(
    (signal) => client.getDataset(job.dataset, { signal }).catch(() => null),
    [client, job.dataset],
    {
      everyMs: null,
    },
  );
  const { report } = job;
  const took = tookText(job);
  const rows =
    report === null ? '' : `, ${countText(report.rows.training)} + ${countText(report.rows.validation)} rows`;
  return (
    <p class="subtitle">
      <Link to="/models/:name" params={{ name: job.base_model }}>
        {job.base_model}
      </Link>
      <span>
        <Link to="/datasets/:id" params={{ id: job.dataset }}>
          {dataset.value?.name ?? job.dataset}
        </Link>
        {rows}
      </span>
      {job.kind === 'train' && (
        <span>
          r {job.lora.r}
          {report !== null && `, ${countText(report.parameters.modules.length)} layers`}
        </span>
      )}
      {took !== null && <span>{took}</span>}
      <span>
        {ENDED_STATUSES.includes(job.status) ? '' : 'created '}
        <Moment at={job.ended_at ?? job.created_at} />
      </span>
    </p>
  );
}
