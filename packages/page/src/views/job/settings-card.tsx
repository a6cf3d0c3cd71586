import { type Job, specOf } from '@lorasmith/contracts';
import { CodeBlock } from '../../components/copy-button.js';
import { DatasetLink } from '../../components/dataset-link.js';
import { Facts } from '../../components/facts.js';
import { Moment } from '../../components/moment.js';
import { ShortId } from '../../components/short-id.js';
import { tookText } from './took-text.js';

/** The settings of a job, and its times. */
export function SettingsCard({ job }: { job: Job }) {
  return (
    <section class="card">
      <h2>Settings</h2>
      <Facts
        entries={[
          ['Id', <ShortId key="id" id={job.id} what="the id of the job" />],
          ['Dataset', <DatasetLink key="dataset" id={job.dataset} />],
          ['Priority', job.priority],
          [
            'Base model',
            job.training.base_quantization === 'nf4' ? 'in 4 bits: quantized to NF4 when it is loaded' : null,
          ],
          ['Created', <Moment key="created" at={job.created_at} isExact />],
          ['Started', job.started_at && <Moment at={job.started_at} isExact />],
          ['Ended', job.ended_at && <Moment at={job.ended_at} isExact />],
          ['Took', tookText(job)],
          ['Attempts', job.attempts > 1 ? job.attempts : null],
          ['Owner', job.owner && <code>{job.owner}</code>],
        ]}
      />
      {Object.keys(job.metadata).length > 0 && (
        <>
          <h3>Metadata</h3>
          <Facts entries={Object.entries(job.metadata)} />
        </>
      )}
      <details>
        <summary>All settings as JSON</summary>
        <CodeBlock text={JSON.stringify(specOf(job), null, 2)} what="the settings" />
      </details>
    </section>
  );
}
