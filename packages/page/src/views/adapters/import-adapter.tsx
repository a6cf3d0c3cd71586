import { ProductError } from '@lorasmith/contracts';
import { useRef, useState } from 'preact/hooks';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { notify } from '../../components/toasts.js';
import { navigate } from '../../location.js';
import { pathOf } from '../../route.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';

/** A form that imports a tar of a PEFT folder. */
export function ImportAdapter({ onImported }: { onImported: () => void }) {
  const client = useClient();
  const file = useRef<HTMLInputElement>(null);
  const [name, setName] = useState('');
  const [baseModel, setBaseModel] = useState('');
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  const send = useAction(async (signal) => {
    const blob = file.current?.files?.[0];
    if (blob === undefined) throw new ProductError('invalid_request', 'Choose the tar of a PEFT folder first.');
    const adapter = await client.importAdapter(
      { blob },
      {
        signal,
        ...(name.trim() === '' ? {} : { name: name.trim() }),
        ...(baseModel === '' ? {} : { base_model: baseModel }),
      },
    );
    notify('The adapter is imported.');
    onImported();
    navigate(pathOf('/adapters/:id', { id: adapter.id }));
  });
  return (
    <details class="card">
      <summary>Import a PEFT adapter</summary>
      <form
        class="narrow"
        onSubmit={(event) => {
          event.preventDefault();
          send.run();
        }}
      >
        <Field
          label="Tar of a PEFT folder"
          help="Uncompressed, with adapter_config.json and adapter_model.safetensors: tar -cf adapter.tar -C FOLDER ."
        >
          {(input) => <input {...input} ref={file} type="file" accept=".tar,application/x-tar" required />}
        </Field>
        <Field label="Base model" help="Empty: the one that adapter_config.json names.">
          {(input) => (
            <select {...input} value={baseModel} onChange={(event) => setBaseModel(event.currentTarget.value)}>
              <option value="">as in the config</option>
              {(models.value ?? []).map((model) => (
                <option key={model.name} value={model.name}>
                  {model.name}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Name" help="Optional.">
          {(input) => (
            <input {...input} maxLength={128} value={name} onInput={(event) => setName(event.currentTarget.value)} />
          )}
        </Field>
        <ErrorNotice error={send.error} what="The adapter was not imported" />
        <button type="submit" disabled={send.isBusy}>
          {send.isBusy ? 'Importing …' : 'Import'}
        </button>
      </form>
    </details>
  );
}
