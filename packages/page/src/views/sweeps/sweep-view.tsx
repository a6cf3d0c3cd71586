import { countText, endedVariants, sweepProgressText } from '@lorasmith/client/core';
import type { Sweep, SweepRung, SweepVariant } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { type ChartLine, numberText } from '../../charts/chart-values.js';
import { LineChart } from '../../charts/line-chart.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { ConfirmDialog } from '../../components/dialog.js';
import { ErrorNotice, Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { Bar, StatusBadge } from '../../components/status.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import type { JobHistory } from '../../history/job-history.js';
import { useJobHistories } from '../../history/use-job-history.js';
import { changeQuery, Link, navigate } from '../../location.js';
import { useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { DatasetLink } from '../datasets/dataset-view.js';
import { curveLineWithoutBand, evaluationLine } from '../job/training-charts.js';
import { FieldPlots } from './field-plots.js';
import {
  bestOf,
  type ColorGroup,
  nextRung,
  twiceAsLong,
  type VariedField,
  valueColors,
  variantText,
  variedFields,
  waitsAtStep,
} from './sweep-variants.js';
import { VariantLink, VariantsTable } from './variants-table.js';

const INTERVAL_MS = 3_000;

/** A sweep: its variants over each other, and which of them is the best. */
export function SweepView({ params, query }: ViewProps) {
  const id = params.id!;
  const client = useClient();
  const sweep = usePolled((signal) => client.getSweep(id, { signal }), [client, id], {
    everyMs: ({ ended_at: ended }) => (ended === null ? INTERVAL_MS : null),
  });
  return (
    <>
      <ViewHead title={sweep.value?.name ?? id} badge={sweep.value && <StatusBadge status={sweep.value.status} />}>
        {sweep.value && <SweepActions sweep={sweep.value} refresh={sweep.refresh} />}
      </ViewHead>
      <Loaded from={sweep} what="the sweep">
        {(value) => <SweepBody sweep={value} query={query} />}
      </Loaded>
    </>
  );
}

function SweepBody({ sweep, query }: { sweep: Sweep; query: URLSearchParams }) {
  const fields = variedFields(sweep);
  const colored = fields.find(({ path }) => path === query.get('color')) ?? fields[0];
  const coloredValue = ({ values }: SweepVariant) => (colored && values[colored.path]) ?? null;
  const { groups, colorOf } = valueColors(sweep.variants.map(coloredValue));
  const drawn = { sweep, fields, colorOf: (one: SweepVariant) => colorOf(coloredValue(one)) };
  return (
    <>
      <SweepState sweep={sweep} fields={fields} />
      <SweepCurves {...drawn} colored={colored} groups={groups} />
      <VariantsTable {...drawn} query={query} />
      <FieldPlots {...drawn} />
      <RungsCard sweep={sweep} />
    </>
  );
}

function SweepState({ sweep, fields }: { sweep: Sweep; fields: readonly VariedField[] }) {
  const { variants, metric, direction } = sweep;
  const best = bestOf(sweep);
  return (
    <section class="job-state" aria-label="State">
      <p class="subtitle">
        {/* A mark follows each part, which is no part of the name of a link. */}
        <span>
          <Link to="/models/:name" params={{ name: sweep.base_model }}>
            {sweep.base_model}
          </Link>
        </span>
        <span>
          <DatasetLink id={sweep.dataset} />
        </span>
        <span>
          by the held-out {metric}, {direction === 'min' ? 'less' : 'more'} is better
        </span>
        <Moment at={sweep.ended_at ?? sweep.created_at} />
      </p>
      {best !== undefined && (
        <p>
          The best is <VariantLink one={best} text={variantText(fields, best)} />
          {best.metric !== null && ` with a held-out ${metric} of ${numberText(best.metric)}`}.
        </p>
      )}
      {sweep.ended_at === null && (
        <Bar label={sweepProgressText(sweep)} value={endedVariants(sweep)} max={variants.length} />
      )}
    </section>
  );
}

interface SweepActionsProps {
  sweep: Sweep;
  /** Reads the sweep again. */
  refresh: () => void;
}

/** The actions on a sweep in its state. */
function SweepActions({ sweep, refresh }: SweepActionsProps) {
  const client = useClient();
  const may = useMay('change');
  const [asked, ask] = useState<'cancel' | 'delete' | null>(null);
  const { id, status } = sweep;
  const pause = useAction(async (signal) => {
    await client.pauseSweep(id, { signal });
    notify('Its jobs are paused once their steps are done.');
    refresh();
  });
  const resume = useAction(async (signal) => {
    await client.resumeSweep(id, { signal });
    notify('Its jobs are queued again. They continue from their last checkpoints.');
    refresh();
  });
  const cancel = useAction(async (signal) => {
    await client.cancelSweep(id, { signal });
    ask(null);
    notify('Its jobs are cancelled.');
    refresh();
  });
  const remove = useAction(async (signal) => {
    await client.deleteSweep(id, { signal });
    notify('The sweep is deleted.');
    navigate('/sweeps');
  });
  if (!may) return null;
  const hasEnded = sweep.ended_at !== null;
  const best = bestOf(sweep);
  return (
    <div class="buttons">
      {/* A variant whose job was deleted has nothing to begin from. */}
      {best !== undefined && best.status !== null && (
        <>
          <Link to="/new-job" query={{ from: best.job, ...twiceAsLong(sweep, best.values) }} class="button primary">
            Train the best one longer
          </Link>
          <Link to="/new-job" query={{ from: best.job }} class="button">
            Like the best one
          </Link>
        </>
      )}
      {status === 'running' && (
        <button type="button" disabled={pause.isBusy} onClick={() => pause.run()}>
          Pause
        </button>
      )}
      {status === 'paused' && (
        <button type="button" class="primary" disabled={resume.isBusy} onClick={() => resume.run()}>
          Resume
        </button>
      )}
      {hasEnded ? (
        <button type="button" class="danger" onClick={() => ask('delete')}>
          Delete
        </button>
      ) : (
        <button type="button" class="danger" onClick={() => ask('cancel')}>
          Cancel the sweep
        </button>
      )}
      <ErrorNotice error={pause.error} what="The sweep was not paused" />
      <ErrorNotice error={resume.error} what="The sweep was not resumed" />
      {asked === 'cancel' && (
        <ConfirmDialog title="Cancel this sweep?" confirm="Cancel the sweep" action={cancel} onClose={() => ask(null)}>
          <p>All of its jobs that have not ended stop after their current step. Adapters that are published stay.</p>
        </ConfirmDialog>
      )}
      {asked === 'delete' && (
        <ConfirmDialog title="Delete this sweep?" confirm="Delete the sweep" action={remove} onClose={() => ask(null)}>
          <p>Only the record of the sweep is deleted. Its jobs and adapters stay.</p>
        </ConfirmDialog>
      )}
    </div>
  );
}

const numbersText = (variants: readonly number[]) => variants.map((variant) => `#${variant}`).join(', ');

const COLUMNS: readonly Column<SweepRung>[] = [
  { title: 'Step', cell: ({ step }) => countText(step) },
  { title: 'Went on', cell: ({ kept }) => numbersText(kept) },
  { title: 'Stopped', cell: ({ stopped }) => numbersText(stopped) },
  { title: 'Decided', cell: ({ decided_at: at }) => <Moment at={at} /> },
];

/** The rungs of a sweep by halving: the variants that went on, and what the next rung waits for. */
function RungsCard({ sweep }: { sweep: Sweep }) {
  if (sweep.request.halving === undefined) return null;
  const next = sweep.ended_at === null ? nextRung(sweep) : null;
  const waiting = sweep.variants.filter((one) => waitsAtStep(sweep, one) !== null).length;
  return (
    <section class="view-section" aria-label="Rungs">
      <h2>Rungs</h2>
      {sweep.rungs.length > 0 && (
        <DataTable caption="Rungs" columns={COLUMNS} rows={sweep.rungs} keyOf={({ step }) => String(step)} />
      )}
      {next !== null && (
        <p class="muted">
          At step {countText(next.step)} the better half of {next.left.length} variants goes on. So far{' '}
          {waiting === 1 ? '1 has come' : `${waiting} have come`} there.
        </p>
      )}
    </section>
  );
}

/** The variants whose values the legends have; of more than these they have the numbers. */
const MAX_LONG_LABELS = 8;

interface SweepCurvesProps {
  sweep: Sweep;
  fields: readonly VariedField[];
  /** The colour of a variant. */
  colorOf: (one: SweepVariant) => number;
  /** The field whose values have the colours. */
  colored: VariedField | undefined;
  groups: readonly ColorGroup[];
}

/** The curves of all variants over each other. */
function SweepCurves({ sweep, fields, colorOf, colored, groups }: SweepCurvesProps) {
  // A deleted job has no events.
  const variants = sweep.variants.filter(({ status }) => status !== null);
  const histories = useJobHistories(variants.map(({ job }) => job));
  return (
    <section class="view-section" aria-label="Curves">
      <h2 class="visually-hidden">Curves</h2>
      <div class="filters">
        {fields.length === 1 ? (
          <span>Colours by {colored?.label}</span>
        ) : (
          <label>
            Colours by{' '}
            <select value={colored?.path} onChange={({ currentTarget }) => changeQuery({ color: currentTarget.value })}>
              {fields.map(({ path, label }) => (
                <option key={path} value={path}>
                  {label}
                </option>
              ))}
            </select>
          </label>
        )}
        <ul class="color-key" aria-label={`Colours by ${colored?.label}`}>
          {groups.map(({ text, color }) => (
            <li key={color}>
              <span class={`series-mark series-${color}`} aria-hidden="true" /> {text}
            </li>
          ))}
        </ul>
      </div>
      <Loaded from={histories} what="the curves">
        {(read) => {
          const lines = (draw: (history: JobHistory, label: string, color: number) => ChartLine) =>
            variants.flatMap((one) => {
              const history = read.get(one.job);
              if (history === undefined) return [];
              const shortLabel = variants.length > MAX_LONG_LABELS ? `#${one.variant}` : undefined;
              return [{ ...draw(history, variantText(fields, one), colorOf(one)), shortLabel }];
            });
          return (
            <div class="charts">
              <LineChart
                title={`Held-out ${sweep.metric}`}
                lines={lines((history, label, color) => evaluationLine(history, label, color, sweep.metric))}
              />
              <LineChart
                title="Training loss"
                lines={lines((history, label, color) => curveLineWithoutBand(history, 'loss', label, color))}
              />
            </div>
          );
        }}
      </Loaded>
    </section>
  );
}
