import { JOB_SETTING_PATHS, JOB_STATUSES, type JobQuery } from '@lorasmith/contracts';
import { listSortOf, type Sort, searchOf } from '../../components/list-query.js';
import { fieldLabel } from '../sweeps/sweep-variants.js';

// The address of the list has everything that is chosen in it, so that going back, a reload or a copied address shows the same.

const PAGE = 25;
/** Sweeps whose variants are in sight at once: each is one request more. */
const MAX_OPEN = 10;
const MAX_COLUMNS = 12;
const SWEEP_ID = /^sw_[0-9a-z]{24}$/;
const MODEL_NAME = /^[\w.-]{1,96}$/;

/** The `sort` of the API by the title of a column. */
export const COLUMN_SORTS: Readonly<Record<string, string>> = {
  Job: 'name',
  State: 'status',
  Progress: 'progress',
  'Base model': 'base_model',
  Took: 'duration',
  When: 'time',
  ...Object.fromEntries(JOB_SETTING_PATHS.map((path) => [fieldLabel(path), path])),
};

export interface JobsAddress {
  /** The query of the request. */
  query: JobQuery;
  search: string;
  tag: string | undefined;
  sort: Sort | null;
  /** True if the jobs of a sweep are one row. */
  isCollapsed: boolean;
  /** The sweeps whose variants are in sight. */
  open: string[];
  /** Paths of the settings that are columns. */
  columns: string[];
  /** True if the choice of columns is in sight. */
  isChoosing: boolean;
  /** True if a search or a filter leaves something out. */
  isSearched: boolean;
  /** True if the list may have others than are in sight. */
  isFiltered: boolean;
}

export function jobsAddressOf(address: URLSearchParams): JobsAddress {
  const { search, after, filters: sought } = searchOf(address);
  const status = JOB_STATUSES.find((one) => one === address.get('status'));
  const { sort, parameters } = listSortOf(address, COLUMN_SORTS);
  const model = address.get('model') ?? '';
  const sweep = listOf(address.get('sweep'), 1, (id) => SWEEP_ID.test(id))[0];
  const isCollapsed = address.get('flat') === null && sweep === undefined;
  const filters: JobQuery = {
    ...sought,
    ...(status === undefined ? {} : { status }),
    ...(MODEL_NAME.test(model) ? { base_model: model } : {}),
    ...(sweep === undefined ? {} : { sweep }),
  };
  const isSearched = Object.keys(filters).length > 0;
  return {
    query: {
      limit: PAGE,
      ...filters,
      ...(isCollapsed ? { collapse: 'sweep' } : {}),
      ...parameters,
      ...(after === undefined ? {} : { after }),
    },
    search,
    tag: sought.tag,
    sort,
    isCollapsed,
    open: listOf(address.get('open'), MAX_OPEN, (id) => SWEEP_ID.test(id)),
    columns: listOf(address.get('columns'), MAX_COLUMNS, (path) => JOB_SETTING_PATHS.includes(path)),
    isChoosing: address.get('settings') === 'open',
    isSearched,
    isFiltered: isSearched || after !== undefined,
  };
}

/** The query for the variants of a sweep in the list: those that match, in the same order. */
export function variantsQuery({ collapse, after, ...query }: JobQuery, sweep: string): JobQuery {
  return { ...query, sweep, limit: 100 };
}

/** A list in the address with one value added or removed; undefined for an empty one. */
export function toggled(list: readonly string[], value: string): string | undefined {
  const changed = list.includes(value) ? list.filter((one) => one !== value) : [...list, value];
  return changed.length === 0 ? undefined : changed.join();
}

function listOf(text: string | null, limit: number, isValid: (value: string) => boolean): string[] {
  return [...new Set((text ?? '').split(',').filter(isValid))].slice(0, limit);
}
