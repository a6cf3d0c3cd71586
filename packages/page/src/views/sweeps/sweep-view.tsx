import { endedVariants, sweepProgressText } from '@lorasmith/client/core';
import type { Sweep, SweepVariant } from '@lorasmith/contracts';
import { numberText } from '../../charts/number-text.js';
import { Bar } from '../../components/bar.js';
import { DatasetLink } from '../../components/dataset-link.js';
import { Link } from '../../components/link.js';
import { Loaded } from '../../components/loaded.js';
import { Moment } from '../../components/moment.js';
import { StatusBadge } from '../../components/status-badge.js';
import { ViewHead } from '../../components/view-head.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import type { ViewProps } from '../view.js';
import { FieldPlots } from './field-plots.js';
import { RungsCard } from './rungs-card.js';
import { SweepActions } from './sweep-actions.js';
import { SweepCurves } from './sweep-curves.js';
import { bestOf, type VariedField, variantText, variedFields } from './sweep-fields.js';
import { valueColors } from './value-axis.js';
import { VariantLink } from './variant-link.js';
import { VariantsTable } from './variants-table.js';

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
