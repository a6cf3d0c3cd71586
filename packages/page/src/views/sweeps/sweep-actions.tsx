import type { Sweep } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { ConfirmDialog } from '../../components/dialog.js';
import { ErrorNotice } from '../../components/error-notice.js';
import { Link } from '../../components/link.js';
import { notify } from '../../components/toasts.js';
import { navigate } from '../../location.js';
import { useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { bestOf, twiceAsLong } from './sweep-fields.js';

export interface SweepActionsProps {
  sweep: Sweep;
  /** Reads the sweep again. */
  refresh: () => void;
}

/** The actions on a sweep in its state. */
export function SweepActions({ sweep, refresh }: SweepActionsProps) {
  const client = useClient();
  const may = useMay('change');
  const [asked, ask] = useState<'cancel' | 'delete' | null>(null);
  const { id, status } = sweep;
  const pause = useAction(async (signal) => {
    await client.pauseSweep(id, { signal });
    notify('Its jobs are paused once their steps are done.');
    refresh();
  });
  const resume = useAction(async (signal) => {
    await client.resumeSweep(id, { signal });
    notify('Its jobs are queued again. They continue from their last checkpoints.');
    refresh();
  });
  const cancel = useAction(async (signal) => {
    await client.cancelSweep(id, { signal });
    ask(null);
    notify('Its jobs are cancelled.');
    refresh();
  });
  const remove = useAction(async (signal) => {
    await client.deleteSweep(id, { signal });
    notify('The sweep is deleted.');
    navigate('/sweeps');
  });
  if (!may) return null;
  const hasEnded = sweep.ended_at !== null;
  const best = bestOf(sweep);
  return (
    <div class="buttons">
      {/* A variant whose job was deleted has nothing to begin from. */}
      {best !== undefined && best.status !== null && (
        <>
          <Link to="/new-job" query={{ from: best.job, ...twiceAsLong(sweep, best.values) }} class="button primary">
            Train the best one longer
          </Link>
          <Link to="/new-job" query={{ from: best.job }} class="button">
            Like the best one
          </Link>
        </>
      )}
      {status === 'running' && (
        <button type="button" disabled={pause.isBusy} onClick={() => pause.run()}>
          Pause
        </button>
      )}
      {status === 'paused' && (
        <button type="button" class="primary" disabled={resume.isBusy} onClick={() => resume.run()}>
          Resume
        </button>
      )}
      {hasEnded ? (
        <button type="button" class="danger" onClick={() => ask('delete')}>
          Delete
        </button>
      ) : (
        <button type="button" class="danger" onClick={() => ask('cancel')}>
          Cancel the sweep
        </button>
      )}
      <ErrorNotice error={pause.error} what="The sweep was not paused" />
      <ErrorNotice error={resume.error} what="The sweep was not resumed" />
      {asked === 'cancel' && (
        <ConfirmDialog title="Cancel this sweep?" confirm="Cancel the sweep" action={cancel} onClose={() => ask(null)}>
          <p>All of its jobs that have not ended stop after their current step. Adapters that are published stay.</p>
        </ConfirmDialog>
      )}
      {asked === 'delete' && (
        <ConfirmDialog title="Delete this sweep?" confirm="Delete the sweep" action={remove} onClose={() => ask(null)}>
          <p>Only the record of the sweep is deleted. Its jobs and adapters stay.</p>
        </ConfirmDialog>
      )}
    </div>
  );
}
