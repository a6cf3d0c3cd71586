import { bytesText } from '@lorasmith/client/core';
import { ENDED_PULL_STATUSES, type Machine, type ModelPull } from '@lorasmith/contracts';
import { useEffect, useRef, useState } from 'preact/hooks';
import { CancellableState } from '../../components/cancellable-state.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { FIT_TEXTS, fitOf } from './model-fit.js';

const isOpen = ({ status }: ModelPull) => !ENDED_PULL_STATUSES.includes(status);
const WHILE_PULLING_MS = 1_000;
const OTHERWISE_MS = 15_000;

/** A form that has a base model fetched from the Hugging Face hub, and the pulls with their progress. */
export function PullModel({ machine, onPulled }: { machine: Machine | undefined; onPulled: () => void }) {
  const client = useClient();
  const may = useMay('pull');
  const pulls = usePolled((signal) => client.modelPulls({ signal }), [client], {
    everyMs: (all) => (all.some(isOpen) ? WHILE_PULLING_MS : OTHERWISE_MS),
  });
  useWhenEnded(pulls.value, onPulled);
  const [repo, setRepo] = useState('');
  const [revision, setRevision] = useState('');
  const [name, setName] = useState('');
  const begin = useAction(async (signal) => {
    const pull = await client.pullModel(
      {
        repo: repo.trim(),
        ...(revision.trim() === '' ? {} : { revision: revision.trim() }),
        ...(name.trim() === '' ? {} : { name: name.trim() }),
      },
      { signal },
    );
    notify(isOpen(pull) ? `Pulling ${pull.name}.` : `${pull.name} is here already.`);
    setRepo('');
    pulls.refresh();
  });
  return (
    <section class="card" aria-labelledby="pull-model">
      <h2 id="pull-model">Get a model from the Hugging Face hub</h2>
      {may ? (
        <form
          class="narrow"
          onSubmit={(event) => {
            event.preventDefault();
            begin.run();
          }}
        >
          <Suggestions machine={machine} chosen={repo} onChoose={setRepo} />
          <Field label="Repository" help="Organisation and name, such as HuggingFaceTB/SmolLM2-135M-Instruct.">
            {(input) => (
              <input
                {...input}
                required
                spellcheck={false}
                autoComplete="off"
                value={repo}
                onInput={(event) => setRepo(event.currentTarget.value)}
              />
            )}
          </Field>
          <Field label="Revision" help="A branch, a tag or a commit. Empty: main.">
            {(input) => (
              <input
                {...input}
                spellcheck={false}
                autoComplete="off"
                value={revision}
                onInput={(event) => setRevision(event.currentTarget.value)}
              />
            )}
          </Field>
          <Field label="Name here" help="Empty: the name of the repository.">
            {(input) => (
              <input
                {...input}
                spellcheck={false}
                autoComplete="off"
                value={name}
                onInput={(event) => setName(event.currentTarget.value)}
              />
            )}
          </Field>
          <ErrorNotice error={begin.error} what="The model was not pulled" />
          <button type="submit" disabled={begin.isBusy}>
            Pull
          </button>
        </form>
      ) : (
        <p>Keys with the role admin can do this.</p>
      )}
      <ErrorNotice error={pulls.error} what="Could not load the pulls" onRetry={pulls.refresh} />
      {pulls.value !== undefined && pulls.value.length > 0 && (
        <PullTable pulls={pulls.value} onChanged={pulls.refresh} />
      )}
    </section>
  );
}

interface SuggestionsProps {
  machine: Machine | undefined;
  /** The repository in the form. */
  chosen: string;
  onChoose: (repo: string) => void;
}

/** Models to begin with, and which of them fit the machine. */
function Suggestions({ machine, chosen, onChoose }: SuggestionsProps) {
  return (
    <Field
      label="A model to begin with"
      help={machine && `For a machine with ${bytesText(machine.memory_bytes)} of memory, about.`}
    >
      {(input) => (
        <select
          {...input}
          value={SUGGESTED_MODELS.some(({ repo }) => repo === chosen) ? chosen : ''}
          onChange={({ currentTarget }) => onChoose(currentTarget.value)}
        >
          <option value="">another one</option>
          {SUGGESTED_MODELS.map(({ repo, parameters }) => {
            const fit = fitOf({ parameters }, machine);
            const fitText = fit === null ? '' : `: ${FIT_TEXTS[fit]}`;
            return (
              <option key={repo} value={repo} disabled={fit === 'too-large'}>
                {repo}, {parametersText(parameters)}
                {fitText}
              </option>
            );
          })}
        </select>
      )}
    </Field>
  );
}

/** Calls back when a pull that was seen unfinished has succeeded. */
function useWhenEnded(pulls: readonly ModelPull[] | undefined, onPulled: () => void): void {
  const open = useRef(new Set<string>());
  useEffect(() => {
    if (pulls === undefined) return;
    const succeeded = pulls.filter(({ id, status }) => open.current.has(id) && status === 'succeeded');
    open.current = new Set(pulls.filter(isOpen).map(({ id }) => id));
    if (succeeded.length === 0) return;
    for (const { name } of succeeded) notify(`${name} is pulled.`);
    onPulled();
  }, [pulls]);
}

function PullTable({ pulls, onChanged }: { pulls: readonly ModelPull[]; onChanged: () => void }) {
  const columns: readonly Column<ModelPull>[] = [
    { title: 'Model', cell: ({ name }) => name },
    { title: 'From', cell: ({ repo, revision }) => `${repo}, ${revision}` },
    { title: 'State', cell: (pull) => <PullState pull={pull} onChanged={onChanged} /> },
    { title: 'Asked for', cell: ({ created_at }) => <Moment at={created_at} /> },
  ];
  return <DataTable caption="Pulls, newest first" columns={columns} rows={pulls} keyOf={({ id }) => id} />;
}

function PullState({ pull, onChanged }: { pull: ModelPull; onChanged: () => void }) {
  const may = useMay('pull');
  const client = useClient();
  const { status, received_bytes: received, total_bytes: total, commit, error } = pull;
  return (
    <CancellableState
      status={status}
      badge={status === 'pulling' ? 'running' : status}
      error={error}
      cancelLabel={may && isOpen(pull) ? `Cancel the pull of ${pull.name}` : null}
      onCancel={async (signal) => {
        await client.cancelModelPull(pull.id, { signal });
        onChanged();
      }}
    >
      {status === 'pulling' && total > 0 && (
        <span>
          <progress aria-label={`Progress of ${pull.name}`} value={received} max={total} /> {bytesText(received)} of{' '}
          {bytesText(total)}
        </span>
      )}
      {status === 'succeeded' && (
        <span>
          {bytesText(total)}, commit <code>{commit?.slice(0, 12)}</code>
        </span>
      )}
    </CancellableState>
  );
}

/** A model of the hub that anybody may pull, and whose family is supported. */
export interface SuggestedModel {
  repo: string;
  parameters: number;
}

/** Models of every size to begin with, the smallest first. */
const SUGGESTED_MODELS: readonly SuggestedModel[] = [
  { repo: 'HuggingFaceTB/SmolLM2-135M-Instruct', parameters: 135e6 },
  { repo: 'HuggingFaceTB/SmolLM2-360M-Instruct', parameters: 362e6 },
  { repo: 'Qwen/Qwen3-0.6B', parameters: 596e6 },
  { repo: 'Qwen/Qwen3-1.7B', parameters: 1.72e9 },
  { repo: 'HuggingFaceTB/SmolLM3-3B', parameters: 3.08e9 },
  { repo: 'Qwen/Qwen3-4B', parameters: 4.02e9 },
  { repo: 'Qwen/Qwen3-8B', parameters: 8.19e9 },
  { repo: 'Qwen/Qwen3-14B', parameters: 14.8e9 },
  { repo: 'Qwen/Qwen3-32B', parameters: 32.8e9 },
];

/** `135 million parameters`, `4 billion parameters` */
function parametersText(parameters: number): string {
  const isBillions = parameters >= 1e9;
  const count = Number((parameters / (isBillions ? 1e9 : 1e6)).toPrecision(3));
  return `${count} ${isBillions ? 'billion' : 'million'} parameters`;
}
