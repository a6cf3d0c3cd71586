import { type Delivery, type DeliveryTarget, ENDED_DELIVERY_STATUSES } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { CancellableState } from '../../components/cancellable-state.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { Link } from '../../location.js';
import { Allowed, useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';

const isOpen = ({ status }: Delivery) => !ENDED_DELIVERY_STATUSES.includes(status);
const WHILE_OPEN_MS = 1_000;
const OTHERWISE_MS = 15_000;

/** A form that has an adapter delivered to a server that runs or into a folder, and its deliveries with their state. */
export function Deliveries({ adapter }: { adapter: string }) {
  const client = useClient();
  const deliveries = usePolled((signal) => client.deliveries(adapter, { signal }), [client, adapter], {
    everyMs: (all) => (all.some(isOpen) ? WHILE_OPEN_MS : OTHERWISE_MS),
  });
  const deliver = useAction(async (signal, to: DeliveryTarget) => {
    await client.deliver(adapter, to, { signal });
    notify(`Delivering as ${to.name}.`);
    deliveries.refresh();
  });
  return (
    <section class="card" aria-labelledby="deliveries">
      <h2 id="deliveries">Deliveries</h2>
      <Allowed to="change">
        <DeliveryForm onDeliver={deliver.run} isBusy={deliver.isBusy} />
        <ErrorNotice error={deliver.error} what="The adapter is not delivered" />
      </Allowed>
      <ErrorNotice error={deliveries.error} what="Could not load the deliveries" onRetry={deliveries.refresh} />
      {deliveries.value !== undefined && deliveries.value.length > 0 && (
        <DeliveryTable deliveries={deliveries.value} onChanged={deliveries.refresh} />
      )}
    </section>
  );
}

function DeliveryForm({ onDeliver, isBusy }: { onDeliver: (to: DeliveryTarget) => void; isBusy: boolean }) {
  const [url, setUrl] = useState('');
  const [name, setName] = useState('');
  const target = (): DeliveryTarget =>
    url.trim() === '' ? { kind: 'folder', name: name.trim() } : { kind: 'vllm', url: url.trim(), name: name.trim() };
  return (
    <form
      class="narrow"
      onSubmit={(event) => {
        event.preventDefault();
        onDeliver(target());
      }}
    >
      <Field label="vLLM server" help="Its address, one that the operator allows. Empty: the delivery folder.">
        {(input) => (
          <input
            {...input}
            type="url"
            spellcheck={false}
            autoComplete="off"
            value={url}
            onInput={(event) => setUrl(event.currentTarget.value)}
          />
        )}
      </Field>
      <Field label="Name there" help="The model name on the server, or the folder. What has this name is replaced.">
        {(input) => (
          <input
            {...input}
            required
            spellcheck={false}
            autoComplete="off"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        )}
      </Field>
      <button type="submit" disabled={isBusy}>
        Deliver
      </button>
    </form>
  );
}

function DeliveryTable({ deliveries, onChanged }: { deliveries: readonly Delivery[]; onChanged: () => void }) {
  const columns: readonly Column<Delivery>[] = [
    { title: 'To', cell: ({ to }) => ('url' in to ? `${to.name} at ${to.url}` : `folder ${to.name}`) },
    { title: 'State', cell: (delivery) => <DeliveryState delivery={delivery} onChanged={onChanged} /> },
    {
      title: 'Asked for',
      cell: ({ created_at, job }) => (
        <>
          <Moment at={created_at} />
          {job !== null && (
            <>
              {' '}
              by <Link to={`/jobs/${job}`}>its job</Link>
            </>
          )}
        </>
      ),
    },
  ];
  return <DataTable caption="Deliveries, newest first" columns={columns} rows={deliveries} keyOf={({ id }) => id} />;
}

function DeliveryState({ delivery, onChanged }: { delivery: Delivery; onChanged: () => void }) {
  const may = useMay('change');
  const client = useClient();
  const { status, error, probe, replaced, to } = delivery;
  return (
    <CancellableState
      status={status}
      badge={status === 'delivered' ? 'succeeded' : status}
      error={error}
      cancelLabel={may && isOpen(delivery) ? `Cancel the delivery as ${to.name}` : null}
      onCancel={async (signal) => {
        await client.cancelDelivery(delivery.id, { signal });
        onChanged();
      }}
    >
      {status === 'delivered' && probe?.adapter_distance != null && (
        <span>answers differ by {probe.adapter_distance.toFixed(3)} from the adapter's</span>
      )}
      {status === 'delivered' && replaced !== null && (
        <span>
          in place of <Link to={`/adapters/${replaced}`}>{replaced}</Link>
        </span>
      )}
    </CancellableState>
  );
}
