import type { Adapter, AliasSummary } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { ConfirmDialog } from '../../components/dialog.js';
import { ErrorNotice, Loaded } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { Allowed } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';

/** The names that point to an adapter, and a field to point another one at it. */
export function AdapterNames({ adapter: { id, owner } }: { adapter: Adapter }) {
  const client = useClient();
  // A name belongs to the owner of its adapter.
  const of = { owner: owner ?? 'none' };
  const aliases = usePolled((signal) => client.aliases({ ...of, signal }), [client, id, owner], { everyMs: null });
  return (
    <section class="card" aria-labelledby="names">
      <h2 id="names">Names</h2>
      <Loaded from={aliases} what="the names">
        {(all) => {
          const own = all.filter(({ adapter }) => adapter === id);
          return (
            <>
              {own.length === 0 && <p>No name points to it. Requests can use its id as the model.</p>}
              {own.map((alias) => (
                <NameRow key={alias.name} alias={alias} owner={of.owner} onChanged={aliases.refresh} />
              ))}
              <Allowed to="change">
                <PointName adapter={id} owner={of.owner} others={all} onMoved={aliases.refresh} />
              </Allowed>
            </>
          );
        }}
      </Loaded>
    </section>
  );
}

interface NameRowProps {
  alias: AliasSummary;
  owner: string;
  onChanged: () => void;
}

function NameRow({ alias: { name, version, moved_at: movedAt }, owner, onChanged }: NameRowProps) {
  const client = useClient();
  const [isDeleting, setDeleting] = useState(false);
  const remove = useAction(async (signal) => {
    await client.deleteAlias(name, { owner, signal });
    notify(`The name ${name} is deleted.`);
    setDeleting(false);
    onChanged();
  });
  const rollBack = useAction(async (signal) => {
    const moved = await client.rollBackAlias(name, {}, { owner, signal });
    notify(`${name} points to ${moved.adapter} again.`);
    onChanged();
  });
  return (
    <>
      <p>
        <code>{name}</code>, version {version}, since <Moment at={movedAt} />
      </p>
      <Allowed to="change">
        <div class="buttons">
          {version > 1 && (
            <button
              type="button"
              aria-label={`Roll back ${name}`}
              disabled={rollBack.isBusy}
              onClick={() => rollBack.run()}
            >
              Roll back
            </button>
          )}
          <button type="button" class="danger" aria-label={`Delete ${name}`} onClick={() => setDeleting(true)}>
            Delete
          </button>
        </div>
      </Allowed>
      <ErrorNotice error={rollBack.error} what={`${name} was not rolled back`} />
      {isDeleting && (
        <ConfirmDialog
          title={`Delete the name ${name}?`}
          confirm="Delete the name"
          action={remove}
          onClose={() => setDeleting(false)}
        >
          <p>Requests with this name as their model fail from then on. The adapter stays.</p>
        </ConfirmDialog>
      )}
    </>
  );
}

interface PointNameProps {
  adapter: string;
  owner: string;
  /** The names that there are. */
  others: readonly AliasSummary[];
  onMoved: () => void;
}

function PointName({ adapter, owner, others, onMoved }: PointNameProps) {
  const client = useClient();
  const [name, setName] = useState('');
  const move = useAction(async (signal) => {
    const alias = await client.moveAlias(name.trim(), { adapter }, { owner, signal });
    notify(`${alias.name} points to this adapter.`);
    setName('');
    onMoved();
  });
  const before = others.find((alias) => alias.name === name.trim() && alias.adapter !== adapter);
  return (
    <form
      class="narrow"
      onSubmit={(event) => {
        event.preventDefault();
        move.run();
      }}
    >
      <Field
        label="Point a name at it"
        help={
          before === undefined
            ? 'A new name, or one of another adapter. Lower-case letters, digits, ".", "_" and "-".'
            : `It points to ${before.adapter} now.`
        }
      >
        {(input) => (
          <input
            {...input}
            maxLength={64}
            list="known-names"
            required
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        )}
      </Field>
      <datalist id="known-names">
        {others.map((alias) => (
          <option key={alias.name} value={alias.name} />
        ))}
      </datalist>
      <ErrorNotice error={move.error} what="The name was not moved" />
      <button type="submit" disabled={move.isBusy}>
        Point the name at this adapter
      </button>
    </form>
  );
}
