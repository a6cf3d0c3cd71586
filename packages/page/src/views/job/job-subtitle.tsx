import { countText } from '@lorasmith/client/core';
import { ENDED_STATUSES, type Job } from '@lorasmith/contracts';
import { DatasetLink } from '../../components/dataset-link.js';
import { Link } from '../../components/link.js';
import { Moment } from '../../components/moment.js';
import { tookText } from './took-text.js';

/** A job in one line: model, dataset, rank, how long it took, when. */
export function JobSubtitle({ job }: { job: Job }) {
  const { report } = job;
  const took = tookText(job);
  const rows =
    report === null ? '' : `, ${countText(report.rows.training)} + ${countText(report.rows.validation)} rows`;
  return (
    <p class="subtitle">
      {/* A mark follows each part, which is no part of the name of a link. */}
      <span>
        <Link to="/models/:name" params={{ name: job.base_model }}>
          {job.base_model}
        </Link>
      </span>
      <span>
        <DatasetLink id={job.dataset} />
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
