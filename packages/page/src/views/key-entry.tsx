import { ProductError } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { ErrorNotice } from '../components/error-notice.js';
import { Field } from '../components/field.js';
import { ViewHead } from '../components/view.js';
import { clientWith, enterKey } from '../service/service.js';
import { useAction } from '../service/use-action.js';

/** Characters that a header may have. */
const HEADER_TEXT = /^[\x21-\x7e]{1,200}$/;

/** Asks for an API key, tries it, and keeps it for this tab. */
export function KeyEntry({ refusedKey }: { refusedKey: string | null }) {
  const [text, setText] = useState('');
  const enter = useAction(async (signal) => {
    const key = text.trim();
    if (!HEADER_TEXT.test(key))
      throw new ProductError('unauthorized', 'That is not an API key. A key looks like lsk_…');
    await clientWith(key).listJobs({ limit: 1 }, { signal });
    enterKey(key);
  });
  return (
    <>
      <ViewHead title="API key" />
      <p>
        {refusedKey === null
          ? 'This service answers only with an API key.'
          : 'The service no longer accepts the key of this tab. It may have been revoked.'}{' '}
        Its operator creates one with <code>npm run keys -- create --name NAME</code>.
      </p>
      <form
        class="narrow"
        onSubmit={(event) => {
          event.preventDefault();
          enter.run();
        }}
      >
        <Field label="API key" help="Kept in this tab only, until it is closed.">
          {(input) => (
            <input
              {...input}
              type="password"
              autoComplete="off"
              spellcheck={false}
              required
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          )}
        </Field>
        <ErrorNotice error={enter.error} />
        <button type="submit" class="primary" disabled={enter.isBusy}>
          Use this key
        </button>
      </form>
    </>
  );
}
