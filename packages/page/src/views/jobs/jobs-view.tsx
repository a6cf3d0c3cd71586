import {
  type Counted,
  JOB_SETTING_PATHS,
  JOB_STATUSES,
  type Job,
  type JobStatus,
  type Sweep,
  UNFINISHED_STATUSES,
} from '@lorasmith/contracts';
import { useRef } from 'preact/hooks';
import { DataTable } from '../../components/data-table.js';
import { Loaded } from '../../components/error-notice.js';
import {
  ListPages,
  listOrder,
  SearchField,
  TagFilter,
  totalText,
  useKeptScroll,
  useLast,
} from '../../components/list.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { changeQuery, Link } from '../../location.js';
import { Allowed } from '../../service/role.js';
import { nullIf, useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { FirstAdapter } from '../first-adapter/first-adapter.js';
import { fieldLabel } from '../sweeps/sweep-variants.js';
import { ChosenActions } from './chosen-actions.js';
import { chosenJobs, toggledJob } from './chosen-jobs.js';
import { jobColumns, keyOfRow, rowsOf } from './job-columns.js';
import { type JobsAddress, jobsAddressOf, toggled, variantsQuery } from './jobs-address.js';

const MOVING_MS = 2_000;
const STILL_MS = 10_000;
/** Jobs that are chosen at once: each is one request of what is done with them. */
const MAX_CHOSEN = 100;

/** The jobs, newest first unless sorted otherwise: the service finds and sorts all of them. */
export function JobsView({ query }: ViewProps) {
  const client = useClient();
  const address = jobsAddressOf(query);
  const asked = JSON.stringify(address.query);
  const jobs = usePolled(
    async (signal) => ({ asked, ...(await client.listJobs(address.query, { signal })) }),
    [client, asked],
    { everyMs: ({ data }) => (isMoving(data) ? MOVING_MS : STILL_MS) },
  );
  const page = useLast(jobs.value);
  useKeptScroll(query.get('after') ?? '', page?.asked === asked);
  return (
    <>
      <ViewHead title="Jobs">
        <Link to="/compare" class="button">
          Compare jobs
        </Link>
        <Allowed to="change">
          <Link to="/new-job" class="button primary">
            New job
          </Link>
        </Allowed>
      </ViewHead>
      <Filters address={address} />
      <Loaded from={{ ...jobs, value: page }} what="the jobs">
        {(value) => <JobList page={value} address={address} query={query} refresh={jobs.refresh} />}
      </Loaded>
    </>
  );
}

function Filters({ address: { query, search, tag, isCollapsed, columns, isChoosing } }: { address: JobsAddress }) {
  const filter = (changes: Record<string, string | undefined>) => changeQuery({ ...changes, after: undefined });
  return (
    <div class="filters">
      <SearchField search={search} placeholder="name, model, tag or id" />
      <label>
        State{' '}
        <select value={query.status ?? ''} onChange={({ currentTarget }) => filter({ status: currentTarget.value })}>
          <option value="">all</option>
          {JOB_STATUSES.map((one: JobStatus) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </label>
      <TagFilter tag={tag} />
      {query.sweep === undefined && (
        <label>
          <input
            type="checkbox"
            checked={isCollapsed}
            onChange={() => filter({ flat: isCollapsed ? 'yes' : undefined })}
          />{' '}
          Variants under their sweep
        </label>
      )}
      <ColumnChoice columns={columns} isOpen={isChoosing} />
    </div>
  );
}

interface JobListProps {
  page: Counted<Job>;
  address: JobsAddress;
  query: URLSearchParams;
  refresh: () => void;
}

function JobList({ page: { data, total, next }, address, query, refresh }: JobListProps) {
  const { sort, isCollapsed, isSearched, isFiltered, columns: settings } = address;
  const chosen = chosenJobs(query.get('chosen'), MAX_CHOSEN);
  const choose = (ids: readonly string[]) => changeQuery({ chosen: ids.join() });
  const inSweeps = isCollapsed ? data.flatMap(({ sweep }) => sweep?.id ?? []) : [];
  const open = address.open.filter((id) => inSweeps.includes(id));
  const variants = useVariants(open, address);
  const rows = isCollapsed ? rowsOf(data, open, variants) : data.map((job) => ({ kind: 'job' as const, job }));
  const shown = rows.flatMap((row) => (row.kind === 'sweep' ? [] : [row.job]));
  const columns = jobColumns({
    sweeps: useSweeps(inSweeps),
    open: address.open,
    settings,
    chosen,
    toggle: (id) => choose(toggledJob(chosen, id, MAX_CHOSEN)),
    isFull: chosen.length >= MAX_CHOSEN,
  });
  if (total === 0 && !isFiltered) return <FirstAdapter text="There are no jobs yet." />;
  return (
    <>
      <p class="list-total">
        <span role="status">
          {totalText({ total, one: 'job', isSearched })}
          {isCollapsed && total > 0 && ', a sweep counted as one'}
        </span>
        {shown.length > 0 && (
          <button
            type="button"
            onClick={() => choose([...new Set([...chosen, ...shown.map(({ id }) => id)])].slice(0, MAX_CHOSEN))}
          >
            Choose all listed
          </button>
        )}
      </p>
      <ChosenActions chosen={chosen} refresh={refresh} />
      {rows.length > 0 && (
        // With many settings it is wider than the screen. Its links are what a keyboard scrolls it by.
        <div class="scroll-region job-list">
          <DataTable
            {...listOrder('Jobs', sort)}
            columns={columns}
            rows={rows}
            keyOf={keyOfRow}
            rowClass={({ kind }) => (kind === 'variant' ? 'variant-row' : undefined)}
          />
        </div>
      )}
      <ListPages to="/jobs" things="jobs" query={query} sort={sort} next={next} />
    </>
  );
}

/** The jobs of the sweeps that are open, by sweep. */
function useVariants(open: readonly string[], { query }: JobsAddress): ReadonlyMap<string, readonly Job[]> {
  const client = useClient();
  const asked = open.map((id) => variantsQuery(query, id));
  const { value } = usePolled(
    async (signal) => {
      const lists = await Promise.all(asked.map((one) => client.listJobs(one, { signal })));
      return new Map(open.map((id, index) => [id, lists[index]!.data] as const));
    },
    [client, JSON.stringify(asked)],
    { everyMs: (lists) => ([...lists.values()].some(isMoving) ? MOVING_MS : null) },
  );
  return useLast(value) ?? new Map();
}

function isMoving(jobs: readonly Job[]): boolean {
  return jobs.some(({ status }) => UNFINISHED_STATUSES.includes(status));
}

/** The settings that are columns of the list. */
export function ColumnChoice({ columns, isOpen }: { columns: readonly string[]; isOpen: boolean }) {
  return (
    <details
      class="column-choice"
      open={isOpen}
      onToggle={({ currentTarget: { open } }) => {
        if (open !== isOpen) changeQuery({ settings: open ? 'open' : undefined });
      }}
    >
      <summary>Settings as columns{columns.length > 0 && ` (${columns.length})`}</summary>
      <ul>
        {JOB_SETTING_PATHS.map((path) => (
          <li key={path}>
            <label>
              <input
                type="checkbox"
                checked={columns.includes(path)}
                onChange={() => changeQuery({ columns: toggled(columns, path) })}
              />{' '}
              {fieldLabel(path)}
            </label>
          </li>
        ))}
      </ul>
    </details>
  );
}

const SWEEPS_MS = 10_000;
const NONE: ReadonlyMap<string, Sweep | null> = new Map();

/** The sweeps of these ids; null for one that was deleted. One that has ended is read once. */
function useSweeps(ids: readonly string[]): ReadonlyMap<string, Sweep | null> {
  const client = useClient();
  const ended = useRef(new Map<string, Sweep | null>());
  const { value } = usePolled(
    async (signal) => {
      const read = async (id: string) => {
        const known = ended.current.get(id);
        if (known !== undefined) return known;
        const sweep = await client.getSweep(id, { signal }).catch(nullIf('sweep_not_found'));
        if (sweep === null || sweep.ended_at !== null) ended.current.set(id, sweep);
        return sweep;
      };
      return new Map(await Promise.all(ids.map(async (id) => [id, await read(id)] as const)));
    },
    [client, ids.join()],
    { everyMs: (sweeps) => ([...sweeps.values()].some((sweep) => sweep?.ended_at === null) ? SWEEPS_MS : null) },
  );
  return useLast(value) ?? NONE;
}
