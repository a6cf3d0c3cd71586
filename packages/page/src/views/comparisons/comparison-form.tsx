import type { Comparison, ComparisonRequest } from '@lorasmith/contracts';
import type { ComponentChildren } from 'preact';
import { useId, useState } from 'preact/hooks';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field, type FieldInput } from '../../components/field.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';

/** Adapters and datasets that are offered. Others are named by their ids. */
const OFFERED = 100;
const DEFAULT_RUBRIC = 'Prefer the answer that agrees with {{item.reference}}. If both do, prefer the shorter one.';

interface Draft {
  a: string;
  b: string;
  dataset: string;
  judge: string;
  url: string;
  rubric: string;
  rows: string;
}

function requestOf({ a, b, dataset, judge, url, rubric, rows }: Draft): ComparisonRequest {
  return {
    models: [a.trim(), b.trim()],
    dataset: dataset.trim(),
    judge: { model: judge.trim(), rubric, ...(url.trim() === '' ? {} : { url: url.trim() }) },
    ...(rows.trim() === '' ? {} : { rows: Number(rows) }),
  };
}

/** A form that has two models compared. @param model - a, where it is known */
export function ComparisonForm({ model, onCreated }: { model: string; onCreated: (comparison: Comparison) => void }) {
  const client = useClient();
  const [draft, setDraft] = useState<Draft>({
    ...{ a: model, b: '', dataset: '', judge: '', url: '', rubric: DEFAULT_RUBRIC, rows: '' },
  });
  const offered = useOffered();
  const create = useAction(async (signal) => onCreated(await client.createComparison(requestOf(draft), { signal })));
  const [models, datasets] = [useId(), useId()];
  const text =
    (name: keyof Draft, more: object = {}) =>
    (input: FieldInput) => (
      <input
        {...input}
        {...more}
        spellcheck={false}
        autoComplete="off"
        value={draft[name]}
        onInput={({ currentTarget: { value } }) => setDraft((current) => ({ ...current, [name]: value }))}
      />
    );
  const needed = { required: true };
  return (
    <section class="card" aria-labelledby="new-comparison">
      <h2 id="new-comparison">Compare two models</h2>
      <Options id={models} values={offered?.models ?? []} />
      <Options id={datasets} values={offered?.datasets ?? []} />
      <form
        class="narrow"
        onSubmit={(event) => {
          event.preventDefault();
          create.run();
        }}
      >
        <Field label="Model a" help="An adapter, a name, a base model, or a dataset with stored answers.">
          {text('a', { ...needed, list: models })}
        </Field>
        <Field label="Model b">{text('b', { ...needed, list: models })}</Field>
        <Field label="Dataset" help="Both answer its prompts.">
          {text('dataset', { ...needed, list: datasets })}
        </Field>
        <Field label="Judge" help="The model that says which answer is better.">
          {text('judge', needed)}
        </Field>
        <Field
          label="Server of the judge"
          help="Its address, one that the operator allows. Empty: a model of this service."
        >
          {text('url', { type: 'url' })}
        </Field>
        <Field
          label="Rubric"
          help="What makes an answer the better one. {{item.reference}} is the own answer of the row."
        >
          {(input) => (
            <textarea
              {...input}
              required
              rows={3}
              value={draft.rubric}
              onInput={({ currentTarget: { value } }) => setDraft((current) => ({ ...current, rubric: value }))}
            />
          )}
        </Field>
        <Field label="Rows" help="So many are drawn. Empty: 100.">
          {text('rows', { type: 'number', min: 1 })}
        </Field>
        <ErrorNotice error={create.error} what="The comparison was not created" />
        <button type="submit" class="primary" disabled={create.isBusy}>
          Compare
        </button>
      </form>
    </section>
  );
}

type Offer = readonly (readonly [value: string, name: string | null])[];

function Options({ id, values }: { id: string; values: Offer }): ComponentChildren {
  return (
    <datalist id={id}>
      {values.map(([value, name]) => (
        <option key={value} value={value}>
          {name ?? value}
        </option>
      ))}
    </datalist>
  );
}

/** The models and datasets that a list offers. */
function useOffered(): { models: Offer; datasets: Offer } | undefined {
  const client = useClient();
  return usePolled(
    async (signal) => {
      const [adapters, names, bases, datasets] = await Promise.all([
        client.listAdapters({ limit: OFFERED }, { signal }),
        client.aliases({ signal }),
        client.models({ signal }),
        client.listDatasets({ limit: OFFERED }, { signal }),
      ]);
      return {
        models: [
          ...names.map(({ name }) => [name, null] as const),
          ...adapters.data.map(({ id, name }) => [id, name] as const),
          ...bases.map(({ name }) => [name, null] as const),
        ],
        datasets: datasets.data.map(({ id, name }) => [id, name] as const),
      };
    },
    [client],
    { everyMs: null },
  ).value;
}
