import { countText } from '@lorasmith/client/core';
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Field, type FieldInput } from '../../components/field.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { FIT_TEXTS, fitOf } from '../models/model-fit.js';
import { useMachine } from '../models/models-view.js';
import type { Draft } from './draft.js';
import type { FieldInputKind, JobField } from './job-fields.js';

/** Something that can be chosen. */
export interface Choice {
  value: string;
  label: string;
  /** Why it cannot be chosen. */
  isDisabled?: boolean;
}

export interface JobFieldInputProps {
  field: JobField;
  text: string;
  onText: (text: string) => void;
  error: string | undefined;
  /** Choices of a field whose values the service has, such as a dataset. */
  offered?: readonly Choice[] | undefined;
  /** Texts that may be meant, such as names of layers. */
  suggestions?: readonly string[];
}

/** The input of a field, as its schema says, with its help and default. */
export function JobFieldInput({ field, text, onText, error, offered, suggestions = [] }: JobFieldInputProps) {
  const preset = presetText(field);
  return (
    <Field label={`${field.label}${field.isRequired ? ' (required)' : ''}`} help={helpOf(field)} error={error}>
      {(input) => {
        const choices = offered ?? choicesOf(field);
        if (choices !== undefined) {
          const isKnown = text === '' || choices.some(({ value }) => value === text);
          const empty = field.isRequired ? 'Choose …' : preset === '' ? 'none' : `${preset} (default)`;
          return (
            <select {...input} value={text} onChange={(event) => onText(event.currentTarget.value)}>
              <option value="">{empty}</option>
              {!isKnown && <option value={text}>{text}</option>}
              {choices.map(({ value, label, isDisabled = false }) => (
                <option key={value} value={value} disabled={isDisabled}>
                  {label}
                </option>
              ))}
            </select>
          );
        }
        const kind = field.input;
        return <TextInput {...{ input, kind, text, onText, suggestions }} placeholder={preset} />;
      }}
    </Field>
  );
}

export interface TextInputProps {
  input: FieldInput;
  kind?: JobField['input'];
  text: string;
  onText: (text: string) => void;
  placeholder: string;
  suggestions?: readonly string[];
}

/** The input of a value that is written, not chosen. */
export function TextInput({ input, kind, text, onText, placeholder, suggestions = [] }: TextInputProps) {
  const common = { ...input, spellcheck: false, autoComplete: 'off', placeholder };
  if (kind === 'lines' || kind === 'json' || kind === 'note') {
    return (
      <textarea
        {...common}
        rows={kind === 'json' ? 2 : 3}
        value={text}
        onInput={(event) => onText(event.currentTarget.value)}
      />
    );
  }
  const listId = suggestions.length === 0 ? undefined : `${input.id}-suggestions`;
  return (
    <>
      <input
        {...common}
        type="text"
        inputMode={kind === 'number' ? 'decimal' : undefined}
        list={listId}
        value={text}
        onInput={(event) => onText(event.currentTarget.value)}
      />
      {listId !== undefined && (
        <datalist id={listId}>
          {suggestions.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      )}
    </>
  );
}

function choicesOf({ input, choices, preset }: JobField): Choice[] | undefined {
  const all = input === 'flag' ? ['true', 'false'] : input === 'choice' ? choices : undefined;
  return all?.filter((value) => value !== String(preset)).map((value) => ({ value, label: yesOrNo(input, value) }));
}

function presetText({ input, preset }: JobField): string {
  if (preset === undefined || preset === null) return '';
  if (Array.isArray(preset)) return preset.join(', ');
  if (typeof preset === 'object') return Object.keys(preset).length === 0 ? '' : JSON.stringify(preset);
  return yesOrNo(input, String(preset));
}

function yesOrNo(input: JobField['input'], value: string): string {
  return input === 'flag' ? (value === 'true' ? 'yes' : 'no') : value;
}

function helpOf({ id, input, description, preset, isNullable }: JobField): ComponentChildren {
  const how = {
    list: 'With commas between them.',
    tags: 'With commas between them.',
    lines: 'One in each line. A line of JSON is a conversation.',
    json: 'As JSON.',
  } as Partial<Record<JobField['input'], string>>;
  const parts = [
    description,
    how[input],
    isNullable && preset !== null && preset !== undefined ? 'The word null switches it off.' : undefined,
  ];
  return (
    <>
      {parts.filter(Boolean).join(' ')} <code>{id}</code>
    </>
  );
}

/** The models, datasets and adapters to choose from. */
export interface Offers {
  choices: Partial<Record<FieldInputKind, readonly Choice[]>>;
  /** Names of layers of the chosen base model. */
  modules: readonly string[];
  /** True while the choices are read for the first time. */
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

export interface FoldedGroupProps {
  title: string;
  /** The number of its fields that are filled in. */
  changed: number;
  /** The labels of its fields that have a fault. */
  faulty: readonly string[];
  /** True if a search has found its fields. */
  isFound?: boolean;
  children: ComponentChildren;
}

/** Fields that are folded, until something in them is wrong or found. */
export function FoldedGroup({ title, changed, faulty, isFound = false, children }: FoldedGroupProps) {
  const [isOpen, setOpen] = useState(false);
  const isFaulty = faulty.length > 0;
  useEffect(() => {
    if (isFaulty || isFound) setOpen(true);
  }, [isFaulty, isFound]);
  const note = isFaulty ? `: ${faulty.join(', ')}` : changed > 0 ? ` (${changed} set)` : '';
  return (
    <details class="card new-job-folded" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        {title}
        {note}
      </summary>
      <fieldset aria-label={title}>{children}</fieldset>
    </details>
  );
}
