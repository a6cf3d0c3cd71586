import { countText, stateText, sweepValueText } from '@lorasmith/client/core';
import type { Sweep, SweepVariant } from '@lorasmith/contracts';
import { numberText } from '../../charts/chart-values.js';
import { type Column, DataTable } from '../../components/data-table.js';
import { nextSort, sortOf } from '../../components/list-query.js';
import { StatusBadge } from '../../components/status.js';
import { changeQuery, Link } from '../../location.js';
import { useMay } from '../../service/role.js';
import { bestFirst, rungText, type VariedField } from './sweep-variants.js';

export interface VariantsTableProps {
  sweep: Sweep;
  fields: readonly VariedField[];
  /** The colour of a variant. */
  colorOf: (one: SweepVariant) => number;
  query: URLSearchParams;
}

/** The variants with their values and results, the best first unless they are sorted otherwise. */
export function VariantsTable({ sweep, fields, colorOf, query }: VariantsTableProps) {
  const may = useMay('change');
  const sort = sortOf(query.get('sort'));
  const columns: (Column<SweepVariant> | false)[] = [
    {
      title: 'Variant',
      sortBy: ({ variant }) => variant,
      cell: (one) => (
        <>
          <span class={`series-mark series-${colorOf(one)}`} aria-hidden="true" />{' '}
          <VariantLink one={one} text={`#${one.variant}`} />
        </>
      ),
    },
    ...fields.map(({ path, label }) => ({
      title: label,
      sortBy: ({ values }: SweepVariant) =>
        typeof values[path] === 'number' ? values[path] : sweepValueText(values[path]),
      cell: ({ values }: SweepVariant) => sweepValueText(values[path]),
    })),
    {
      title: `Held-out ${sweep.metric}`,
      isNumber: true,
      sortBy: ({ metric }) => metric,
      cell: ({ metric }) => (metric === null ? '–' : numberText(metric)),
    },
    {
      title: 'At step',
      isNumber: true,
      sortBy: ({ step }) => step,
      cell: ({ step }) => (step === null ? '–' : countText(step)),
    },
    { title: 'Rank', isNumber: true, sortBy: ({ rank }) => rank, cell: ({ rank }) => rank ?? '–' },
    { title: 'State', sortBy: stateText, cell: (one) => <VariantState one={one} /> },
    sweep.request.halving !== undefined && { title: 'Rungs', cell: (one) => rungText(sweep, one) },
    may && {
      title: 'New job',
      cell: ({ variant, job, status }) =>
        status !== null && (
          <Link to="/new-job" query={{ from: job }}>
            Like this<span class="visually-hidden">: variant {variant}</span>
          </Link>
        ),
    },
  ];
  return (
    <section class="view-section" aria-label="Variants">
      <h2>Variants</h2>
      <DataTable
        caption={sort === null ? 'Variants, the best first' : `Variants, by ${sort.title}`}
        columns={columns.filter((column) => column !== false)}
        rows={bestFirst(sweep)}
        keyOf={({ job }) => job}
        sort={sort}
        onSort={(title) => changeQuery({ sort: nextSort(sort, title) })}
      />
    </section>
  );
}

function VariantState({ one }: { one: SweepVariant }) {
  const { status, progress, error } = one;
  if (status === null) return <>its job is deleted</>;
  return (
    <>
      <StatusBadge status={status} word={stateText(one)} /> {error?.message}
      {status === 'running' &&
        progress !== null &&
        `${countText(progress.step)} of ${countText(progress.total_steps)} steps`}
    </>
  );
}

/** A text about a variant as a link to its job; without the link once the job was deleted. */
export function VariantLink({ one: { job, status }, text }: { one: SweepVariant; text: string }) {
  if (status === null) return <>{text}</>;
  return (
    <Link to="/jobs/:id" params={{ id: job }}>
      {text}
    </Link>
  );
}
