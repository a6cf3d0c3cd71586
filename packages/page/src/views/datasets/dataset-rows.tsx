import { countText } from '@lorasmith/client/core';
import type { DatasetRowsQuery, DatasetRowView, DatasetTokens, RowToken, RowTokens } from '@lorasmith/contracts';
import { FaultList, Loaded } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { changeQuery } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { type TokenRun, tokenRuns, visibleText } from './token-runs.js';

const ROWS = 10;
const OVERFLOWS = ['error', 'drop', 'truncate', 'split'] as const;
const LONGEST = 1_048_576;

/** Rows of a dataset, as they were uploaded or as a model sees them. All settings are in the address. */
export function DatasetRows({ dataset, query }: { dataset: string; query: URLSearchParams }) {
  const client = useClient();
  const asked = rowsQueryOf(query);
  const rows = usePolled(
    (signal) => client.datasetRows(dataset, asked, { signal }),
    [client, dataset, JSON.stringify(asked)],
    { everyMs: null },
  );
  const showsIds = query.get('ids') !== null;
  return (
    <section class="view-section" aria-labelledby="rows-title">
      <h2 id="rows-title">Rows</h2>
      <RowSettings asked={asked} showsIds={showsIds} />
      {asked.base_model !== undefined && <TokensState dataset={dataset} baseModel={asked.base_model} />}
      <Loaded from={rows} what="the rows">
        {({ data, next }) => (
          <>
            {data.length === 0 && <p>There are no rows after line {asked.after ?? 0}.</p>}
            <ol class="row-list">
              {data.map((row) => (
                <Row key={row.line} row={row} showsIds={showsIds} />
              ))}
            </ol>
            <div class="buttons">
              <button type="button" disabled={!asked.after} onClick={() => changeQuery({ after: undefined })}>
                First rows
              </button>
              <button type="button" disabled={next === null} onClick={() => changeQuery({ after: String(next) })}>
                Next rows
              </button>
            </div>
          </>
        )}
      </Loaded>
    </section>
  );
}

/** The query of an address; a value that is not a number or a known word is ignored. */
function rowsQueryOf(query: URLSearchParams): DatasetRowsQuery {
  const numberOf = (name: string, least: number, most: number) => {
    const value = Number(query.get(name) ?? Number.NaN);
    return Number.isInteger(value) && value >= least && value <= most ? value : undefined;
  };
  const after = numberOf('after', 1, Number.MAX_SAFE_INTEGER);
  const place = { limit: ROWS, ...(after === undefined ? {} : { after }) };
  const base_model = query.get('model') ?? '';
  if (base_model === '') return place;
  const max_seq_length = numberOf('length', 2, LONGEST);
  const on_overflow = OVERFLOWS.find((one) => one === query.get('overflow'));
  const length = max_seq_length === undefined ? {} : { max_seq_length };
  return { ...place, base_model, ...length, ...(on_overflow === undefined ? {} : { on_overflow }) };
}

function RowSettings({ asked, showsIds }: { asked: DatasetRowsQuery; showsIds: boolean }) {
  const models = useModelNames();
  const { base_model: model = '', after = 0, max_seq_length, on_overflow = 'error' } = asked;
  return (
    <div class="field-row">
      <Field label="Show">
        {(input) => (
          <select
            {...input}
            value={model}
            onChange={(event) => changeQuery({ model: event.currentTarget.value || undefined })}
          >
            <option value="">as uploaded</option>
            {[...new Set([...models, ...(model === '' ? [] : [model])])].map((name) => (
              <option key={name} value={name}>
                as tokens of {name}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label="From line">
        {(input) => (
          <input
            {...input}
            type="number"
            min={1}
            value={after + 1}
            onChange={(event) => {
              const line = event.currentTarget.valueAsNumber;
              changeQuery({ after: line > 1 ? String(Math.floor(line) - 1) : undefined });
            }}
          />
        )}
      </Field>
      {model !== '' && (
        <>
          <Field label="max_seq_length">
            {(input) => (
              <input
                {...input}
                type="number"
                min={2}
                max={LONGEST}
                placeholder="1024"
                value={max_seq_length ?? ''}
                onChange={(event) => changeQuery({ length: event.currentTarget.value || undefined })}
              />
            )}
          </Field>
          <Field label="on_overflow">
            {(input) => (
              <select
                {...input}
                value={on_overflow}
                onChange={(event) => changeQuery({ overflow: event.currentTarget.value })}
              >
                {OVERFLOWS.map((one) => (
                  <option key={one} value={one}>
                    {one}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <label class="check">
            <input
              type="checkbox"
              checked={showsIds}
              onChange={(event) => changeQuery({ ids: event.currentTarget.checked ? '1' : undefined })}
            />{' '}
            Token ids
          </label>
        </>
      )}
    </div>
  );
}

const STATES: Record<DatasetTokens['status'], string> = {
  none: 'Its first job on this model will tokenize the rows.',
  waiting: 'The rows wait to be tokenized for this model.',
  preparing: 'The rows are being tokenized for this model:',
  ready: 'All rows are stored as tokens of this model, so a job on it starts at once.',
  failed: 'Rows could not be tokenized for this model:',
};
const UNFINISHED: readonly DatasetTokens['status'][] = ['waiting', 'preparing'];

/** The state of the stored tokens of all rows. */
function TokensState({ dataset, baseModel }: { dataset: string; baseModel: string }) {
  const client = useClient();
  const { value } = usePolled(
    (signal) => client.datasetTokens(dataset, baseModel, { signal }),
    [client, dataset, baseModel],
    { everyMs: ({ status }) => (UNFINISHED.includes(status) ? 2_000 : null) },
  );
  if (value === undefined) return null;
  const { status, rows, total_rows: total, error } = value;
  return (
    <div class={status === 'failed' ? 'notice notice-error' : 'fine-print'}>
      <p>
        {STATES[status]}
        {status === 'preparing' && ` ${countText(rows)} of ${countText(total)}`}
        {error !== null && ` ${error.message}`}
      </p>
      <FaultList faults={error?.details ?? []} />
    </div>
  );
}

function Row({ row, showsIds }: { row: DatasetRowView; showsIds: boolean }) {
  const { line, text, characters, faults, tokens, rejected_tokens: rejected, label } = row;
  return (
    <li class="card">
      <h3>Line {line}</h3>
      {faults.length > 0 && (
        <div class="notice notice-error">
          <p class="notice-title">A job cannot be trained on this row</p>
          <FaultList faults={faults} />
        </div>
      )}
      {tokens === null ? (
        <p class="row-text">
          {text}
          {characters > text.length && ` … (${countText(characters)} characters)`}
        </p>
      ) : (
        <>
          {rejected !== undefined && <h4>Chosen</h4>}
          {label !== undefined && <h4>{label ? 'Wanted' : 'Unwanted'}</h4>}
          <TokenText tokens={tokens} showsIds={showsIds} />
          {rejected !== undefined && <h4>Rejected</h4>}
          {rejected !== undefined && <TokenText tokens={rejected} showsIds={showsIds} />}
        </>
      )}
    </li>
  );
}

const OUTCOMES: Record<RowTokens['outcome'], string> = {
  complete: 'trained on as it is',
  refused: 'too long: the job would be refused',
  dropped: 'left out of the training',
  truncated: 'cut at max_seq_length',
  split: 'cut into parts',
};

/**
 * The tokens of a row. What is trained is underlined on a coloured ground, what is left out is struck through, and both are said to
 * screen readers.
 */
function TokenText({ tokens, showsIds }: { tokens: RowTokens; showsIds: boolean }) {
  const { total, trained, outcome, sequences, data } = tokens;
  return (
    <>
      <p class="fine-print">
        {countText(total)} tokens, {countText(trained)} <mark class="trained">trained</mark>; {OUTCOMES[outcome]}
        {outcome === 'split' && `, of which ${countText(sequences.length)} are trained on`}
      </p>
      <p class={showsIds ? 'token-text token-text-ids' : 'token-text'}>
        {tokenRuns(tokens).map((run, index) => (
          <Run key={index} run={run} showsIds={showsIds} />
        ))}
      </p>
      {data.length < total && <p class="fine-print">The first {countText(data.length)} tokens are shown.</p>}
    </>
  );
}

function Run({ run: { use, isCut, tokens }, showsIds }: { run: TokenRun; showsIds: boolean }) {
  const texts = tokens.map((token, index) => <Token key={index} token={token} showsId={showsIds} />);
  return (
    <>
      {isCut && (
        <span class="cut">
          <span class="visually-hidden">, next sequence: </span>
        </span>
      )}
      {use === 'read' && texts}
      {use === 'trained' && (
        <mark class="trained">
          <span class="visually-hidden"> (trained: </span>
          {texts}
          <span class="visually-hidden">) </span>
        </mark>
      )}
      {use === 'left-out' && (
        <s>
          <span class="visually-hidden"> (left out: </span>
          {texts}
          <span class="visually-hidden">) </span>
        </s>
      )}
    </>
  );
}

function Token({ token: { id, text }, showsId }: { token: RowToken; showsId: boolean }) {
  return (
    <>
      <span class="token">
        {showsId ? visibleText(text).replaceAll('\n', '') : visibleText(text)}
        {showsId && <sub>{id}</sub>}
      </span>
      {showsId && <wbr />}
    </>
  );
}

/** The base models that can be used; none while they are not known. */
export function useModelNames(): string[] {
  const client = useClient();
  const models = usePolled((signal) => client.models({ signal }), [client], { everyMs: null });
  return (models.value ?? []).filter(({ problem }) => problem === null).map(({ name }) => name);
}
