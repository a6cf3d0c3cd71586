import { type Delivery, type DeliveryTarget, deliveryPlace, ENDED_DELIVERY_STATUSES } from '@lorasmith/contracts';
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

/** A form that has an adapter delivered, and its deliveries with their state. */
export function Deliveries({ adapter }: { adapter: string }) {
  const client = useClient();
  const deliveries = usePolled((signal) => client.deliveries(adapter, { signal }), [client, adapter], {
    everyMs: (all) => (all.some(isOpen) ? WHILE_OPEN_MS : OTHERWISE_MS),
  });
  const deliver = useAction(async (signal, to: DeliveryTarget) => {
    await client.deliver(adapter, to, { signal });
    notify(`Delivering to ${deliveryPlace(to)}.`);
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

interface PlaceField {
  label: string;
  help: string;
  pattern?: string;
}
interface FormKind {
  option: string;
  fields: readonly PlaceField[];
  /** True if the merged model can be delivered so. */
  takesMerged: boolean;
  target(values: readonly string[], merged: { merged?: true }): DeliveryTarget;
}

const NAME = {
  label: 'Name there',
  help: 'The model name on the server, or the folder. What has this name is replaced.',
};
const KINDS: readonly FormKind[] = [
  {
    option: 'a vLLM server',
    fields: [
      { label: 'vLLM server', help: 'Its address, one that the operator allows.', pattern: 'https?://.+' },
      NAME,
    ],
    takesMerged: false,
    target: ([url = '', name = '']) => ({ kind: 'vllm', url, name }),
  },
  {
    option: 'the delivery folder',
    fields: [NAME],
    takesMerged: false,
    target: ([name = '']) => ({ kind: 'folder', name }),
  },
  {
    option: 'the Hugging Face hub',
    fields: [
      {
        label: 'Repository',
        help: 'ORG/NAME. It is made, and is private, if there is none. `lora hub-token set` stores your token.',
        pattern: '[^/]+/[^/]+',
      },
    ],
    takesMerged: true,
    target: ([repository = ''], merged) => ({ kind: 'hub', repository, ...merged }),
  },
  {
    option: 'a bucket',
    fields: [
      { label: 'Bucket', help: 'One that the operator allows.' },
      { label: 'Prefix', help: 'PREFIX/latest.json will name the files.' },
    ],
    takesMerged: true,
    target: ([bucket = '', prefix = ''], merged) => ({ kind: 's3', bucket, prefix, ...merged }),
  },
];

function DeliveryForm({ onDeliver, isBusy }: { onDeliver: (to: DeliveryTarget) => void; isBusy: boolean }) {
  const [chosen, setChosen] = useState(0);
  const [values, setValues] = useState<Record<string, string>>({});
  const [isMerged, setMerged] = useState(false);
  const { fields, takesMerged, target } = KINDS[chosen]!;
  return (
    <form
      class="narrow"
      onSubmit={(event) => {
        event.preventDefault();
        const texts = fields.map(({ label }) => (values[label] ?? '').trim());
        onDeliver(target(texts, takesMerged && isMerged ? { merged: true } : {}));
      }}
    >
      <Field label="Deliver to">
        {(input) => (
          <select {...input} value={chosen} onChange={(event) => setChosen(Number(event.currentTarget.value))}>
            {KINDS.map(({ option }, index) => (
              <option key={option} value={index}>
                {option}
              </option>
            ))}
          </select>
        )}
      </Field>
      {fields.map(({ label, help, pattern = '.*' }) => (
        <Field key={label} label={label} help={help}>
          {(input) => (
            <input
              {...input}
              required
              pattern={pattern}
              spellcheck={false}
              autoComplete="off"
              value={values[label] ?? ''}
              onInput={({ currentTarget: { value } }) => setValues((before) => ({ ...before, [label]: value }))}
            />
          )}
        </Field>
      ))}
      {takesMerged && (
        <label>
          <input type="checkbox" checked={isMerged} onChange={(event) => setMerged(event.currentTarget.checked)} /> The
          merged model
        </label>
      )}
      <button type="submit" disabled={isBusy}>
        Deliver
      </button>
    </form>
  );
}

function DeliveryTable({ deliveries, onChanged }: { deliveries: readonly Delivery[]; onChanged: () => void }) {
  const columns: readonly Column<Delivery>[] = [
    { title: 'To', cell: ({ to }) => deliveryPlace(to) },
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
      cancelLabel={may && isOpen(delivery) ? `Cancel the delivery to ${deliveryPlace(to)}` : null}
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
