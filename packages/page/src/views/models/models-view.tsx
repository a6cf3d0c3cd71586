import { bytesText, countText } from '@lorasmith/client/core';
import type { BaseModel, Machine } from '@lorasmith/contracts';
import { type Column, DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/error-notice.js';
import { ViewHead } from '../../components/view.js';
import { Link } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { FIT_TEXTS, fitOf, largestMachine } from './model-fit.js';
import { PullModel } from './pull-model.js';

const columnsOn = (machine: Machine | undefined): Column<BaseModel>[] => [
  {
    title: 'Model',
    cell: ({ name }) => (
      <Link to="/models/:name" params={{ name }}>
        {name}
      </Link>
    ),
  },
  { title: 'Family', cell: ({ family }) => family ?? 'cannot be used' },
  { title: 'Parameters', isNumber: true, cell: ({ parameters }) => (parameters === null ? '' : countText(parameters)) },
  {
    title: 'Context',
    isNumber: true,
    cell: (model) => (model.max_positions === null ? '' : `${countText(model.max_positions)} tokens`),
  },
  { title: 'Weights', isNumber: true, cell: ({ bytes, dtype }) => `${bytesText(bytes)} ${dtype ?? ''}` },
  {
    title: 'Memory',
    cell: (model) => {
      const fit = fitOf(model, machine);
      return fit === null ? 'unknown' : FIT_TEXTS[fit];
    },
  },
];

/** The base models on the host. */
export function ModelsView() {
  const client = useClient();
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  const machine = useMachine();
  return (
    <>
      <ViewHead title="Models" />
      <Loaded from={models} what="the base models">
        {(rows) =>
          rows.length === 0 ? (
            <p>
              There are no base models yet: get one below, or copy a folder in Hugging Face layout into the models
              folder of the host.
            </p>
          ) : (
            <DataTable
              caption="Base models, by name"
              columns={columnsOn(machine)}
              rows={rows}
              keyOf={({ name }) => name}
            />
          )
        }
      </Loaded>
      <PullModel machine={machine} onPulled={models.refresh} />
    </>
  );
}

/** The machine that base models are compared with; undefined while none is known. */
export function useMachine(): Machine | undefined {
  const client = useClient();
  const machines = usePolled((signal) => client.machines({ signal }), [client], { everyMs: null });
  return largestMachine(machines.value ?? []);
}
