import { type CallOptions, countText } from '@lorasmith/client/core';
import { useState } from 'preact/hooks';
import { ConfirmDialog } from '../../components/dialog.js';
import { notify } from '../../components/notices.js';
import { changeQuery, Link } from '../../location.js';
import { useMay } from '../../service/role.js';
import { nullIf, useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { forEachJob, MAX_COMPARED, type RefusedJob } from './chosen-jobs.js';

export interface ChosenActionsProps {
  chosen: readonly string[];
  /** Reads the list again. */
  refresh: () => void;
}

/** The actions on the chosen jobs. Those that refuse one stay chosen. */
export function ChosenActions({ chosen, refresh }: ChosenActionsProps) {
  const client = useClient();
  const may = useMay('change');
  const [asked, ask] = useState<'cancel' | 'delete' | null>(null);
  const [refused, setRefused] = useState<readonly RefusedJob[]>([]);
  const jobs = (count: number) => `${countText(count)} ${count === 1 ? 'job' : 'jobs'}`;
  /** Does something with each of the chosen jobs, which may be on other pages. */
  const withEach = async (
    act: (id: string, call: CallOptions) => Promise<unknown>,
    done: string,
    signal: AbortSignal,
  ) => {
    const refusals = await forEachJob(chosen, (id) => act(id, { signal }));
    const named = await Promise.all(
      refusals.map(async ({ id, message }) => {
        const job = await client.getJob(id, { signal }).catch(nullIf('job_not_found'));
        return { id, message: `${job?.name ?? id}: ${message}` };
      }),
    );
    ask(null);
    setRefused(named);
    const count = chosen.length - refusals.length;
    if (count > 0) notify(`${jobs(count)} ${count === 1 ? 'is' : 'are'} ${done}.`);
    changeQuery({ chosen: refusals.map(({ id }) => id).join() });
    refresh();
  };
  const cancel = useAction(
    async (signal) => await withEach(client.cancelJob, 'cancelled, or will be once their workers have stopped', signal),
  );
  const remove = useAction(async (signal) => await withEach(client.deleteJob, 'deleted', signal));
  if (chosen.length === 0) return null;
  return (
    <section class="chosen" aria-label="Chosen jobs">
      <div class="buttons">
        <span role="status">{jobs(chosen.length)} chosen</span>
        {chosen.length <= MAX_COMPARED ? (
          <Link to="/compare" query={{ jobs: chosen.join() }} class="button">
            Compare {jobs(chosen.length)}
          </Link>
        ) : (
          <button type="button" disabled>
            Compare up to {MAX_COMPARED} jobs
          </button>
        )}
        {may && (
          <>
            <button type="button" class="danger-quiet" onClick={() => ask('cancel')}>
              Cancel them
            </button>
            <button type="button" class="danger-quiet" onClick={() => ask('delete')}>
              Delete them
            </button>
          </>
        )}
        <button
          type="button"
          onClick={() => {
            setRefused([]);
            changeQuery({ chosen: undefined });
          }}
        >
          Choose none
        </button>
      </div>
      {refused.length > 0 && (
        <div class="notice notice-warning" role="alert">
          <p class="notice-title">{jobs(refused.length)} stayed as they were</p>
          <ul class="faults">
            {refused.map(({ id, message }) => (
              <li key={id}>{message}</li>
            ))}
          </ul>
        </div>
      )}
      {asked === 'cancel' && (
        <ConfirmDialog
          title={`Cancel ${jobs(chosen.length)}?`}
          confirm={`Cancel ${jobs(chosen.length)}`}
          action={cancel}
          onClose={() => ask(null)}
        >
          <p>Each stops after its current step, and can be resumed. Those that have ended stay as they are.</p>
        </ConfirmDialog>
      )}
      {asked === 'delete' && (
        <ConfirmDialog
          title={`Delete ${jobs(chosen.length)}?`}
          confirm={`Delete ${jobs(chosen.length)}`}
          action={remove}
          onClose={() => ask(null)}
        >
          <p>
            Their records, events and checkpoints are deleted. Their adapters stay, and so do jobs that have not ended.
          </p>
        </ConfirmDialog>
      )}
    </section>
  );
}
