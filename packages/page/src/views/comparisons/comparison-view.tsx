import { countText, shareText, verdictText } from '@lorasmith/client/core';
import type { Comparison, ComparisonResult, ComparisonRow } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { CancellableState } from '../../components/cancellable-state.js';
import { type Column, DataTable, Facts } from '../../components/data-table.js';
import { ConfirmDialog } from '../../components/dialog.js';
import { Loaded } from '../../components/error-notice.js';
import { Moment } from '../../components/moment.js';
import { notify } from '../../components/notices.js';
import { Bar } from '../../components/status.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { Link, navigate } from '../../location.js';
import { Allowed, useMay } from '../../service/role.js';
import { useClient } from '../../service/service.js';
import { useAction } from '../../service/use-action.js';
import { usePolled } from '../../service/use-polled.js';
import { DatasetLink } from '../datasets/dataset-view.js';
import { isOpen, ModelName } from './comparison-facts.js';
import { IntervalLine } from './interval-line.js';

const PAGE_ROWS = 20;
const MOVING_MS = 1_000;

/** One comparison: its state, its result with the interval drawn, and its rows side by side. */
export function ComparisonView({ params, query }: ViewProps) {
  const id = params.id!;
  const client = useClient();
  const comparison = usePolled((signal) => client.getComparison(id, { signal }), [client, id], {
    everyMs: (one) => (isOpen(one) ? MOVING_MS : null),
  });
  const [isDeleting, setDeleting] = useState(false);
  const remove = useAction(async (signal) => {
    await client.deleteComparison(id, { signal });
    notify('The comparison is deleted.');
    navigate('/comparisons');
  });
  return (
    <>
      <ViewHead title={comparison.value?.name ?? id}>
        {comparison.value !== undefined && !isOpen(comparison.value) && (
          <Allowed to="change">
            <button type="button" class="danger" onClick={() => setDeleting(true)}>
              Delete
            </button>
          </Allowed>
        )}
      </ViewHead>
      <Loaded from={comparison} what="the comparison">
        {(one) => (
          <>
            <About comparison={one} onChanged={comparison.refresh} />
            {one.result !== null && <Result result={one.result} models={one.models} />}
            <Rows comparison={one} after={Number(query.get('after') ?? 0) || 0} />
          </>
        )}
      </Loaded>
      {isDeleting && (
        <ConfirmDialog
          title="Delete this comparison?"
          confirm="Delete the comparison"
          action={remove}
          onClose={() => setDeleting(false)}
        >
          <p>Its rows are removed with it. Its models and its dataset stay.</p>
        </ConfirmDialog>
      )}
    </>
  );
}

function About({ comparison, onChanged }: { comparison: Comparison; onChanged: () => void }) {
  const { id, models, dataset, judge, status, error, progress, created_at: createdAt } = comparison;
  const client = useClient();
  const may = useMay('change');
  return (
    <section class="card" aria-labelledby="about">
      <h2 id="about">About</h2>
      <CancellableState
        status={status}
        badge={status}
        error={error}
        cancelLabel={may && isOpen(comparison) ? 'Cancel the comparison' : null}
        onCancel={async (signal) => {
          await client.cancelComparison(id, { signal });
          onChanged();
        }}
      />
      {isOpen(comparison) && progress !== null && progress.total > 0 && (
        <Bar label={`${progress.rows} of ${progress.total} rows`} value={progress.rows} max={progress.total}>
          Judged
        </Bar>
      )}
      <Facts
        entries={[
          ['a', <ModelName key="a" model={models[0]!} />],
          ['b', <ModelName key="b" model={models[1]!} />],
          ['Dataset', <DatasetLink key="dataset" id={dataset} />],
          ['Judge', judge.url === undefined ? judge.model : `${judge.model} at ${judge.url}`],
          ['Rubric', judge.rubric],
          ['Asked for', <Moment key="created" at={createdAt} />],
        ]}
      />
    </section>
  );
}

function Result({ result, models }: { result: ComparisonResult; models: Comparison['models'] }) {
  const { wins, losses, ties, identical, failed, win_rate: rate, interval, position_bias: bias, tokens } = result;
  const names = models.map(({ name }) => name) as [string, string];
  return (
    <section class="card" aria-labelledby="result">
      <h2 id="result">Result</h2>
      <p>
        <strong>{verdictText(result, names)}</strong>
      </p>
      <IntervalLine result={result} />
      <Facts
        entries={[
          ['a wins, ties as half', rate === null ? null : shareText(rate)],
          ['Interval, 95 %', interval === null ? null : interval.map(shareText).join(' to ')],
          ['Wins of a', countText(wins)],
          ['Wins of b', countText(losses)],
          [
            'Ties',
            identical === 0 ? countText(ties) : `${countText(ties)}, of them ${identical} with the same answers`,
          ],
          ['Failed rows', failed === 0 ? null : countText(failed)],
          ['Decided by the order alone', bias === null ? null : shareText(bias)],
          ['Tokens of the answers', tokens.answers.map(countText).join(' and ')],
          ['Tokens of the judge', countText(tokens.judge)],
        ]}
      />
      {result.failures.length > 0 && (
        <ul>
          {result.failures.map(({ reason, rows }) => (
            <li key={reason}>
              {rows} failed: {reason}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

const COLUMNS: readonly Column<ComparisonRow>[] = [
  { title: 'Row', cell: ({ number, line }) => `${number} (line ${line})` },
  {
    title: 'Prompt',
    cell: ({ prompt, reference }) => (
      <div class="sample-text">
        {prompt}
        {reference !== null && <p class="muted">The row says: {reference}</p>}
      </div>
    ),
  },
  { title: 'a', cell: (row) => <Answer row={row} side={0} /> },
  { title: 'b', cell: (row) => <Answer row={row} side={1} /> },
  { title: 'Verdict', cell: (row) => <Verdict row={row} /> },
];

function Answer({ row, side }: { row: ComparisonRow; side: 0 | 1 }) {
  const answer = row.answers[side];
  if (answer == null) return null;
  return (
    <div class="sample-text">
      {answer.text}
      {answer.is_cut && <p class="muted">It was cut.</p>}
    </div>
  );
}

const OUTCOMES = { win: 'a', loss: 'b', tie: 'tie', failed: 'failed' } as const;

function Verdict({ row: { outcome, verdicts, error, number } }: { row: ComparisonRow }) {
  const said = verdicts.flatMap((verdict, order) => (verdict === null ? [] : [{ ...verdict, order }]));
  return (
    <>
      {outcome === null ? 'not finished' : OUTCOMES[outcome]}
      {error !== null && <p>{error}</p>}
      {said.length > 0 && (
        <details>
          <summary>
            What the judge said<span class="visually-hidden"> of row {number}</span>
          </summary>
          {said.map(({ order, prefers, text }) => (
            <p key={order} class="sample-text">
              With {order === 0 ? 'a' : 'b'} first, {prefers}: {text}
            </p>
          ))}
        </details>
      )}
    </>
  );
}

function Rows({ comparison: { id, progress }, after }: { comparison: Comparison; after: number }) {
  const client = useClient();
  const rows = usePolled(
    (signal) => client.comparisonRows(id, { after, limit: PAGE_ROWS }, { signal }),
    [client, id, after, progress?.rows],
    { everyMs: null },
  );
  return (
    <section class="card" aria-labelledby="rows">
      <h2 id="rows">Rows</h2>
      <Loaded from={rows} what="the rows">
        {({ data, next }) => (
          <>
            {data.length === 0 ? (
              <p>No row has been begun.</p>
            ) : (
              <DataTable
                caption="Rows: prompt, both answers, verdict"
                columns={COLUMNS}
                rows={data}
                keyOf={({ number }) => String(number)}
              />
            )}
            <div class="buttons">
              {after > 0 && (
                <Link to="/comparisons/:id" params={{ id }} class="button">
                  First rows
                </Link>
              )}
              {next !== null && (
                <Link to="/comparisons/:id" params={{ id }} query={{ after: String(next) }} class="button">
                  Next rows
                </Link>
              )}
            </div>
          </>
        )}
      </Loaded>
    </section>
  );
}
