import { CopyButton } from './copy-button.js';

const SHOWN = 6;

/** The end of a long id, with a button that copies all of it. */
export function ShortId({ id, what }: { id: string; what: string }) {
  const kind = id.slice(0, id.indexOf('_') + 1);
  return (
    <span class="short-id">
      <code title={id}>
        {kind}…{id.slice(-SHOWN)}
      </code>
      <CopyButton text={id} what={what} />
    </span>
  );
}
