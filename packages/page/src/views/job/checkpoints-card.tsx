import { bytesText } from '@lorasmith/client/core';
import { type Checkpoint, ENDED_STATUSES, type Job } from '@lorasmith/contracts';
import { useEffect, useState } from 'preact/hooks';
import { numberText } from '../../charts/chart-values.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { CloseButton, Dialog } from '../../components/dialog.js';
import { ErrorNotice, Loaded } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { hasRewards, rewardOf } from '../../history/job-history.js';
import { navigate } from '../../location.js';
import { pathOf } from '../../route.js';
import { useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';

export interface CheckpointsCardProps {
  job: Job;
  /** Changes when the job has saved another one. */
  lastSaved: string | undefined;
}

/** The stored states of a training. Those of an ended job can become adapters. */
export function CheckpointsCard({ job, lastSaved }: CheckpointsCardProps) {
  const client = useClient();
  const [chosen, choose] = useState<Checkpoint | null>(null);
  const checkpoints = usePolled((signal) => client.checkpoints(job.id, { signal }), [client, job.id], {
    everyMs: null,
  });
  useEffect(checkpoints.refresh, [lastSaved, job.status]);
  const may = useMay('change');
  const hasEnded = ENDED_STATUSES.includes(job.status);
  const isGraded = hasRewards(job);
  const columns: Column<Checkpoint>[] = [
    { title: 'Step', isNumber: true, cell: ({ step }) => step.toLocaleString('en-US') },
    { title: 'Loss', isNumber: true, cell: ({ train_loss }) => numberText(train_loss) },
    {
      title: isGraded ? 'Held-out reward' : 'Held-out loss',
      isNumber: true,
      cell: ({ eval_loss: loss }) => (loss === null ? '–' : numberText(isGraded ? rewardOf({ loss }) : loss)),
    },
    { title: 'State', cell: stateText },
    { title: 'Size', isNumber: true, cell: ({ bytes }) => bytesText(bytes) },
    { title: 'Saved', cell: (one) => <Moment at={one.created_at} /> },
    ...(hasEnded && may
      ? [
          {
            title: 'Publish',
            cell: (one: Checkpoint) => (
              <button type="button" aria-label={`Publish step ${one.step}`} onClick={() => choose(one)}>
                Publish
              </button>
            ),
          },
        ]
      : []),
  ];
  return (
    <section class="card">
      <h2>Checkpoints</h2>
      <Loaded from={checkpoints} what="the checkpoints">
        {(rows) =>
          rows.length === 0 ? (
            <p class="muted">There are none{hasEnded ? ' any more: they are kept for a week' : ' yet'}.</p>
          ) : (
            <>
              {!hasEnded && may && (
                <p class="muted">When the job has ended, each of them can be published as an adapter.</p>
              )}
              <DataTable
                caption="Checkpoints, newest first"
                columns={columns}
                rows={rows}
                keyOf={({ step }) => String(step)}
              />
            </>
          )
        }
      </Loaded>
      {chosen !== null && <PublishDialog job={job} checkpoint={chosen} onClose={() => choose(null)} />}
    </section>
  );
}

function stateText({ is_best: isBest, is_last: isLast }: Checkpoint): string {
  return [isBest && 'best', isLast && 'last'].filter(Boolean).join(', ') || '–';
}

function PublishDialog({ job, checkpoint, onClose }: { job: Job; checkpoint: Checkpoint; onClose: () => void }) {
  const client = useClient();
  const [name, setName] = useState(`${job.name ?? 'adapter'}-step-${checkpoint.step}`.slice(0, 128));
  const publish = useAction(async (signal) => {
    const options = name.trim() === '' ? { signal } : { name: name.trim(), signal };
    const created = await client.publishCheckpoint(job.id, checkpoint.step, options);
    notify(`The checkpoint of step ${checkpoint.step} is being published.`);
    navigate(pathOf('/jobs/:id', { id: created.id }));
  });
  return (
    <Dialog title={`Publish step ${checkpoint.step} as an adapter`} onClose={onClose}>
      <form
        class="narrow"
        onSubmit={(event) => {
          event.preventDefault();
          publish.run();
        }}
      >
        <p>A job checks the state and publishes it; nothing is trained.</p>
        <Field label="Name of the adapter">
          {(input) => (
            <input {...input} maxLength={128} value={name} onInput={(event) => setName(event.currentTarget.value)} />
          )}
        </Field>
        <ErrorNotice error={publish.error} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={publish.isBusy}>
            Publish
          </button>
          <CloseButton />
        </div>
      </form>
    </Dialog>
  );
}
