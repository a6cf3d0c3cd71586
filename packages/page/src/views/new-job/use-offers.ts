import { countText } from '@lorasmith/client/core';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { FIT_TEXTS, fitOf } from '../models/model-fit.js';
import { useMachine } from '../models/use-machine.js';
import type { Draft } from './draft.js';
import type { Choice } from './job-field-input.js';
import type { FieldInputKind } from './job-fields.js';

/** The models, datasets and adapters to choose from. */
export interface Offers {
  choices: Partial<Record<FieldInputKind, readonly Choice[]>>;
  /** Names of layers of the chosen base model. */
  modules: readonly string[];
  /** Whether the choices are being read for the first time. */
  isLoading: boolean;
  error: unknown;
  refresh: () => void;
  /** Reads the datasets again, such as after an upload. */
  refreshDatasets: () => void;
}

/** The newest ones. An older one can be chosen by a link from its own view. */
const SHOWN = { limit: 100 };

export function useOffers(draft: Draft): Offers {
  const client = useClient();
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  const datasets = usePolled((signal) => client.listDatasets(SHOWN, { signal }), [client], { everyMs: null });
  const adapters = usePolled((signal) => client.listAdapters(SHOWN, { signal }), [client], { everyMs: null });
  const machine = useMachine();
  const chosen = models.value?.find(({ name }) => name === draft.base_model);
  return {
    choices: {
      'base-model': (models.value ?? []).map((model) => {
        const { name, family, problem } = model;
        const fit = fitOf(model, machine);
        const about = [family, fit === null ? '' : FIT_TEXTS[fit]].filter(Boolean).join(', ');
        return {
          value: name,
          label: problem === null ? `${name} (${about})` : `${name}: ${problem.message}`,
          isDisabled: problem !== null,
        };
      }),
      dataset: (datasets.value?.data ?? []).map(({ id, name, rows, format }) => ({
        value: id,
        label: `${name ?? id}: ${countText(rows)} rows, ${format}${name === null ? '' : `, ${id}`}`,
      })),
      adapter: (adapters.value?.data ?? [])
        .filter(({ base_model: base }) => (draft.base_model ?? '') === '' || base === draft.base_model)
        .map(({ id, name }) => ({ value: id, label: name === null ? id : `${name}, ${id}` })),
    },
    modules: chosen === undefined ? [] : ['all-linear', ...chosen.target_modules],
    isLoading: [models, datasets, adapters].some(({ value, error }) => value === undefined && error === undefined),
    error: models.error ?? datasets.error ?? adapters.error,
    refreshDatasets: datasets.refresh,
    refresh() {
      for (const polled of [models, datasets, adapters]) if (polled.error !== undefined) polled.refresh();
    },
  };
}
