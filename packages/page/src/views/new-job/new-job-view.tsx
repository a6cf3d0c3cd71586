import { type Fault, ProductError, type Report, type SweepPlan } from '@lorasmith/contracts';
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { CodeBlock } from '../../components/copy-button.js';
import { ErrorNotice } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { notify } from '../../components/notices.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { navigate } from '../../location.js';
import { pathOf } from '../../route.js';
import { SERVICE_URL, session, useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { useStore } from '../../store.js';
import { UploadInForm } from '../datasets/upload-card.js';
import { ReportCard, Warnings } from '../job/report-card.js';
import {
  curlCommand,
  type Draft,
  FIRST_DRAFT,
  idOfFault,
  RECIPE_DRAFTS,
  recipeOf,
  requestOf,
  sweepRequestOf,
} from './draft.js';
import { FoldedGroup, JobFieldInput, useOffers } from './job-field-input.js';
import { type JobField, jobFields } from './job-fields.js';
import { type DryRun, PlanCard, useDryRun } from './plan-card.js';
import { SeveralValues } from './several-values.js';
import { useDraft } from './use-draft.js';

const FIELDS = jobFields();
/** The button that starts the job stands outside of the form, where it stays in sight. */
const FORM = 'new-job-form';

/** Fields that are in sight with the recipe. All others are folded, also those that the schema gets later. */
const FIRST = ['dataset', 'base_model', 'validation.split', 'name', 'tags', 'samples.prompts'];
/** The titles of groups, by the first part of their fields' names. Others are called as in the request. */
const TITLES: Readonly<Record<string, string>> = {
  lora: 'Adapter',
  objective: 'Objective',
  training: 'Training',
  validation: 'Validation',
  samples: 'Samples',
};
const FIRST_FIELDS = FIRST.flatMap((id) => FIELDS.filter((field) => field.id === id));
const FOLDED = groupsOf(FIELDS.filter(({ id }) => !FIRST.includes(id)));

/** The fields by the title of their group. */
function groupsOf(fields: readonly JobField[]): [title: string, fields: JobField[]][] {
  const groups = new Map<string, JobField[]>();
  for (const field of fields) {
    const title = titleOf(field.path);
    groups.set(title, [...(groups.get(title) ?? []), field]);
  }
  return [...groups];
}

function titleOf(path: readonly string[]): string {
  if (path.length === 1) return 'Other settings';
  return TITLES[path[0]!] ?? path[0]!;
}

/** The form that starts a job, or a sweep if a field has several values, and next to it what that would do. */
export function NewJobView({ query }: ViewProps) {
  const client = useClient();
  const { key } = useStore(session);
  const { draft, isLoading, error: loadError, change, clear, keyFor } = useDraft(FIELDS, query);
  const offers = useOffers(draft);
  const request = useMemo(() => requestOf(FIELDS, draft), [draft]);
  const isComplete = FIELDS.every(({ id, isRequired }) => !isRequired || (draft[id] ?? '') !== '');
  const sweep = useMemo(() => sweepRequestOf(request, draft), [request, draft]);
  const isReady = isComplete && !isLoading;
  const jobRun = useDryRun(isReady && sweep === null ? request : null, (to, asked, signal) =>
    to.dryRun(asked, { signal }),
  );
  const sweepRun = useDryRun(isReady ? sweep : null, (to, asked, signal) => to.dryRunSweep(asked, { signal }));
  const dryRun = sweep === null ? jobRun : sweepRun;
  const start = useAction(async (signal) => {
    if (sweep !== null) {
      const { id } = await client.createSweep(sweep, { idempotencyKey: keyFor(sweep), signal });
      clear();
      notify(`${id} has begun.`);
      navigate(pathOf('/sweeps/:id', { id }));
      return;
    }
    const job = await client.createJob(request, { idempotencyKey: keyFor(request), signal });
    clear();
    notify(`${job.id} is queued.`);
    navigate(pathOf('/jobs/:id', { id: job.id }));
  });
  // A refusal of the job is shown until something changes it.
  const error = start.error ?? dryRun.error;
  const { atFields, others } = sortFaults(error, draft);
  const what = sweep === null ? 'job' : 'sweep';
  const edit = (fields: Draft) => {
    start.clearError();
    change(fields);
  };

  // Where there is one base model, nothing is to be chosen.
  const usable = offers.choices['base-model']?.filter(({ isDisabled }) => !isDisabled) ?? [];
  const only = usable.length === 1 ? usable[0]!.value : undefined;
  const hasModel = (draft.base_model ?? '') !== '';
  useEffect(() => {
    if (only !== undefined && !isLoading && !hasModel) change({ base_model: only });
  }, [only, isLoading, hasModel]);

  const inputOf = (field: JobField) => (
    <JobFieldInput
      key={field.id}
      field={field}
      text={draft[field.id] ?? ''}
      onText={(text) => edit({ [field.id]: text })}
      error={atFields.get(field.id)?.join(' ')}
      offered={offers.choices[field.input]}
      suggestions={field.id.endsWith('_modules') ? offers.modules : []}
    />
  );
  return (
    <>
      <ViewHead title="New job">
        <button type="button" onClick={clear} disabled={JSON.stringify(draft) === JSON.stringify(FIRST_DRAFT)}>
          Empty the form
        </button>
      </ViewHead>
      <ErrorNotice error={loadError} what="Could not read the earlier job" />
      <ErrorNotice error={offers.error} what="Could not load the choices" onRetry={offers.refresh} />
      {isLoading || offers.isLoading ? (
        // A field that is there before its choices, or before the earlier job, would lose what is typed into it.
        <p class="loading">Loading the form …</p>
      ) : (
        <div class="new-job">
          <form
            id={FORM}
            class="new-job-form"
            noValidate
            onSubmit={(event) => {
              event.preventDefault();
              if (isComplete) start.run();
            }}
          >
            <fieldset class="card">
              <legend>Job</legend>
              {FIRST_FIELDS.map(inputOf)}
              <UploadInForm
                onStored={({ id }) => {
                  edit({ dataset: id });
                  offers.refreshDatasets();
                }}
              />
            </fieldset>
            <RecipeChoice draft={draft} onChoose={edit} />
            <SeveralValues fields={FIELDS} draft={draft} faults={atFields} onChange={edit} />
            <FoldedFields draft={draft} isFaulty={(id) => atFields.has(id)} inputOf={inputOf} />
          </form>
          <aside class="new-job-beside" aria-label={`What the ${what} would do`}>
            <div class="new-job-start">
              <ErrorNotice error={others} what={`The ${what} cannot be started`} />
              <div class="buttons">
                <button type="submit" form={FORM} class="primary" disabled={!isComplete || start.isBusy}>
                  Start the {what}
                </button>
                {!isComplete && <span class="muted">Choose a base model and a dataset first.</span>}
              </div>
            </div>
            <Outlook dryRun={dryRun} isComplete={isComplete} faults={atFields.size}>
              {jobRun.report !== null && (
                <>
                  <Warnings report={jobRun.report} />
                  <ReportCard report={jobRun.report} />
                </>
              )}
              {sweepRun.report !== null && <PlanCard plan={sweepRun.report} />}
            </Outlook>
            <SameRequest what={what} request={sweep ?? request} hasKey={key !== null} />
          </aside>
        </div>
      )}
    </>
  );
}

/** The request of the form for other clients: as a command and as JSON. */
function SameRequest({ what, request, hasKey }: { what: 'job' | 'sweep'; request: object; hasKey: boolean }) {
  return (
    <section class="card">
      <h2>The same request</h2>
      <CodeBlock text={curlCommand(`${SERVICE_URL}${what}s`, request, hasKey)} what="the command for curl" />
      <CodeBlock text={JSON.stringify(request, undefined, 2)} what="the request as JSON" />
    </section>
  );
}

function RecipeChoice({ draft, onChoose }: { draft: Draft; onChoose: (fields: Draft) => void }) {
  const chosen = recipeOf(draft);
  return (
    <fieldset class="card recipes">
      <legend>Recipe</legend>
      {RECIPE_DRAFTS.map((recipe) => (
        <label key={recipe.name} class="recipe">
          <input type="radio" name="recipe" checked={recipe === chosen} onChange={() => onChoose(recipe.fields)} />
          <span>
            <strong>{recipe.title}</strong>
            <span class="help">{recipe.description}</span>
          </span>
        </label>
      ))}
      {chosen === undefined && <p class="help">Changed: the fields below say how.</p>}
    </fieldset>
  );
}

interface FoldedFieldsProps {
  draft: Draft;
  isFaulty: (id: string) => boolean;
  inputOf: (field: JobField) => ComponentChildren;
}

/** The other fields in groups, and a search that finds them. */
function FoldedFields({ draft, isFaulty, inputOf }: FoldedFieldsProps) {
  const [search, setSearch] = useState('');
  const words = search.trim().toLowerCase();
  const isFound = ({ id, label }: JobField) => words === '' || `${id} ${label}`.toLowerCase().includes(words);
  const groups = FOLDED.map(([title, fields]) => [title, fields.filter(isFound)] as const);
  return (
    <>
      <Field label="Find a setting">
        {(input) => (
          <input
            {...input}
            type="search"
            placeholder="learning rate"
            value={search}
            onInput={(event) => setSearch(event.currentTarget.value)}
            onKeyDown={(event) => {
              // It does not start the job.
              if (event.key === 'Enter') event.preventDefault();
            }}
          />
        )}
      </Field>
      {groups.map(([title, fields]) =>
        fields.length === 0 ? null : (
          <FoldedGroup
            key={title}
            title={title}
            changed={fields.filter(({ id }) => (draft[id] ?? '') !== '').length}
            faulty={fields.filter(({ id }) => isFaulty(id)).map(({ label }) => label)}
            isFound={words !== ''}
          >
            {fields.map(inputOf)}
          </FoldedGroup>
        ),
      )}
      {groups.every(([, fields]) => fields.length === 0) && <p class="muted">No setting has this name.</p>}
    </>
  );
}

interface OutlookProps {
  dryRun: DryRun<Report | SweepPlan>;
  isComplete: boolean;
  /** The number of fields with a fault. */
  faults: number;
  /** The report. */
  children: ComponentChildren;
}

/** The result of the check: if the request can be started, and its report. */
function Outlook({ dryRun, isComplete, faults, children }: OutlookProps) {
  const { report, isRunning } = dryRun;
  return (
    <>
      <p role="status">{outlookText(dryRun, isComplete, faults)}</p>
      {report !== null && (
        <div class={isRunning ? 'new-job-report new-job-outdated' : 'new-job-report'}>{children}</div>
      )}
    </>
  );
}

function outlookText(
  { report, isRunning, error }: OutlookProps['dryRun'],
  isComplete: boolean,
  faults: number,
): string {
  if (!isComplete) return 'Nothing is checked yet: the base model or the dataset is missing.';
  if (isRunning) return 'Checking …';
  if (report !== null && 'jobs' in report && report.jobs < report.variants.length)
    return 'It cannot be started: some variants cannot run.';
  if (report !== null) return 'Checked: it can be started.';
  if (error === undefined) return '';
  return faults === 0
    ? 'It cannot be started.'
    : `It cannot be started: something is wrong with ${faults} of the fields.`;
}

/** The faults that belong to fields, by the id of the field; and the error with those that do not, if there are any. */
function sortFaults(error: unknown, draft: Draft): { atFields: Map<string, string[]>; others: unknown } {
  const atFields = new Map<string, string[]>();
  if (!(error instanceof ProductError)) return { atFields, others: error };
  const { code, message, param, details } = error;
  const all: readonly Fault[] =
    details.length > 0 ? details : [{ code, message, ...(param === undefined ? {} : { param }) }];
  const rest = all.filter((fault) => {
    const id = fault.line === undefined ? idOfFault(FIELDS, draft, fault.param) : undefined;
    if (id !== undefined) atFields.set(id, [...(atFields.get(id) ?? []), fault.message]);
    return id === undefined;
  });
  return { atFields, others: rest.length === 0 ? undefined : error };
}
