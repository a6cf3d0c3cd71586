import type { CallOptions } from '@lorasmith/client/core';
import { type Details, type DetailsChange, MAX_NAME_CHARACTERS, MAX_NOTE_CHARACTERS } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { CloseButton, Dialog } from '../components/dialog.js';
import { ErrorNotice } from '../components/error-notice.js';
import { Field } from '../components/field.js';
import { TagList } from '../components/list.js';
import { tagsOfText } from '../components/list-query.js';
import { notify } from '../components/notices.js';
import { Allowed } from '../service/role.js';
import { useAction } from '../service/use-action.js';

export interface OwnDetailsProps {
  /** The kind of thing: `job`. */
  what: string;
  /** The list of such things: `/jobs`. */
  list: string;
  details: Details;
  change: (details: DetailsChange, call: CallOptions) => Promise<unknown>;
  /** Reads the thing again. */
  refresh: () => void;
}

/** Tags and note of a job, an adapter or a dataset. They and the name can be changed. */
export function OwnDetails(props: OwnDetailsProps) {
  const { list, details } = props;
  const [isEditing, setEditing] = useState(false);
  return (
    <div class="own-details">
      <TagList tags={details.tags} to={list} />
      {details.note !== null && <p class="note">{details.note}</p>}
      <Allowed to="change">
        <button type="button" onClick={() => setEditing(true)}>
          Edit name, tags and note
        </button>
      </Allowed>
      {isEditing && <DetailsDialog {...props} onClose={() => setEditing(false)} />}
    </div>
  );
}

function DetailsDialog({ what, details, change, refresh, onClose }: OwnDetailsProps & { onClose: () => void }) {
  const [name, setName] = useState(details.name ?? '');
  const [tags, setTags] = useState(details.tags.join(', '));
  const [note, setNote] = useState(details.note ?? '');
  const save = useAction(async (signal) => {
    const lines = note.replaceAll('\r\n', '\n').trim();
    await change({ name: name.trim() || null, tags: tagsOfText(tags), note: lines || null }, { signal });
    notify(`The ${what} is changed.`);
    onClose();
    refresh();
  });
  return (
    <Dialog title={`Name, tags and note of this ${what}`} onClose={onClose}>
      <form
        class="details-form"
        onSubmit={(event) => {
          event.preventDefault();
          save.run();
        }}
      >
        <Field label="Name">
          {(input) => (
            <input
              {...input}
              value={name}
              maxLength={MAX_NAME_CHARACTERS}
              onInput={({ currentTarget }) => setName(currentTarget.value)}
            />
          )}
        </Field>
        <Field label="Tags" help="Words to find it by, with commas between them.">
          {(input) => <input {...input} value={tags} onInput={({ currentTarget }) => setTags(currentTarget.value)} />}
        </Field>
        <Field label="Note">
          {(input) => (
            <textarea
              {...input}
              rows={5}
              maxLength={MAX_NOTE_CHARACTERS}
              value={note}
              onInput={({ currentTarget }) => setNote(currentTarget.value)}
            />
          )}
        </Field>
        <ErrorNotice error={save.error} what={`The ${what} was not changed`} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={save.isBusy}>
            Save
          </button>
          <CloseButton />
        </div>
      </form>
    </Dialog>
  );
}
