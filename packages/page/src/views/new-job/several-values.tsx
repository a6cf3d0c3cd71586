import { SWEEP_METRICS } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { Field } from '../../components/field.js';
import { fieldLabel } from '../sweeps/sweep-variants.js';
import {
  addableFields,
  DRAWN,
  type Draft,
  EXCLUDED,
  HALVING,
  KEPT,
  listedPaths,
  METRIC,
  SEED,
  SETTINGS,
  valuesId,
} from './draft.js';
import { FoldedGroup, TextInput } from './job-field-input.js';
import type { JobField } from './job-fields.js';

export interface SeveralValuesProps {
  fields: readonly JobField[];
  draft: Draft;
  /** The faults by the id of the input. */
  faults: ReadonlyMap<string, readonly string[]>;
  onChange: (changes: Draft) => void;
}

const LABELS: Readonly<Record<string, string>> = {
  'training.learning_rate': 'Learning rates to try',
  'lora.r': 'Ranks to try',
};
const SETTING_LABELS: Readonly<Record<string, string>> = {
  [METRIC]: 'Compared by',
  [HALVING]: 'First rung of halving',
  [DRAWN]: 'Combinations to draw',
  [SEED]: 'Seed of the draw',
  [EXCLUDED]: 'Combinations to leave out',
  [KEPT]: 'Adapters to keep',
};
const EXAMPLES: Readonly<Record<string, string>> = {
  'training.learning_rate': '1e-4..3e-3:log',
  'lora.r': '4, 8, 16',
};

/** The fields that are tried with several values: with one of them, the form starts a sweep. */
export function SeveralValues({ fields, draft, faults, onChange }: SeveralValuesProps) {
  const paths = listedPaths(draft);
  const inputs = [
    ...paths.map((path) => ({ id: valuesId(path), label: LABELS[path] ?? `${fieldLabel(path)}, values to try` })),
    ...SETTINGS.map((id) => ({ id, label: SETTING_LABELS[id]! })),
  ];
  const labelOf = (id: string) => inputs.find((one) => one.id === id)!.label;
  const errorOf = (id: string) => faults.get(id)?.join(' ');
  const textInput = (id: string, example: string, help: string) => (
    <Field key={id} label={labelOf(id)} help={help} error={errorOf(id)}>
      {(input) => (
        <TextInput
          input={input}
          placeholder={example}
          text={draft[id] ?? ''}
          onText={(text) => onChange({ [id]: text })}
        />
      )}
    </Field>
  );
  return (
    <FoldedGroup
      title="Try several values"
      changed={inputs.filter(({ id }) => (draft[id] ?? '') !== '').length}
      faulty={inputs.filter(({ id }) => faults.has(id)).map(({ label }) => label)}
    >
      <p class="help">
        With values here, the form starts a sweep: a job for each combination, compared on the held-out rows, and the
        best adapter stays. Without a validation split, a tenth of the rows is held out.
      </p>
      {paths.map((path) =>
        textInput(
          valuesId(path),
          EXAMPLES[path] ?? '',
          'With commas between them, or a range: from..to, with :log equal factors, with :log:6 six values. Lists are JSON: "all-linear", ["q_proj", "v_proj"].',
        ),
      )}
      <AddedField choices={addableFields(fields, draft)} onAdd={(path) => onChange({ [valuesId(path)]: '' })} />
      <Field label={labelOf(METRIC)} help="On the held-out rows." error={errorOf(METRIC)}>
        {(input) => (
          <select
            {...input}
            value={draft[METRIC] ?? ''}
            onChange={({ currentTarget }) => onChange({ [METRIC]: currentTarget.value })}
          >
            <option value="">loss (default)</option>
            {SWEEP_METRICS.filter((metric) => metric !== 'loss').map((metric) => (
              <option key={metric} value={metric}>
                {metric}
              </option>
            ))}
          </select>
        )}
      </Field>
      {textInput(DRAWN, 'all', 'So many combinations are drawn at random, instead of trying all.')}
      {textInput(SEED, '42', 'The same seed draws the same combinations.')}
      {textInput(
        EXCLUDED,
        'lora.r=16 & training.learning_rate=1e-3..',
        'What meets all conditions is left out. With semicolons between several.',
      )}
      {textInput(KEPT, '1', 'The adapters of so many variants stay, the best ones.')}
      {textInput(HALVING, 'none', 'A step. There, and after twice as many steps again, only the better half goes on.')}
    </FoldedGroup>
  );
}

/** Chooses a further field, and adds its input with a button: by keyboard a list changes with every arrow. */
function AddedField({ choices, onAdd }: { choices: readonly JobField[]; onAdd: (path: string) => void }) {
  const [chosen, choose] = useState('');
  return (
    <div class="added-field">
      <Field label="Another setting to try">
        {(input) => (
          <select {...input} value={chosen} onChange={({ currentTarget }) => choose(currentTarget.value)}>
            <option value="">Choose …</option>
            {choices.map(({ id, label }) => (
              <option key={id} value={id}>
                {label}
              </option>
            ))}
          </select>
        )}
      </Field>
      <button
        type="button"
        disabled={chosen === ''}
        onClick={() => {
          onAdd(chosen);
          choose('');
        }}
      >
        Add
      </button>
    </div>
  );
}
