import {
  type DatasetRowPage,
  type DatasetRowsQuery,
  ProductError,
  TrainingSettings,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Preflight } from '../jobs/preflight.js';
import type { DatasetCatalog } from './dataset-catalog.js';
import { type LeaseSources, withLeases, withRows } from './file-leases.js';
import type { TokenPreparations } from './token-preparations.js';

export interface RowViewsOptions extends LeaseSources {
  catalog: Pick<DatasetCatalog, 'uploaded' | 'lease'>;
  preflight: Pick<Preflight, 'viewRows'>;
  preparations: Pick<TokenPreparations, 'checkModel'>;
}

export interface RowViews {
  /**
   * A page of the rows, as they were uploaded and as tokens of a base model.
   * @throws ProductError `dataset_not_found`, `model_not_found`, `invalid_request`, `dataset_format_mismatch`, `timeout`,
   * `service_unavailable`; why the model cannot be trained
   */
  page(dataset: string, query: DatasetRowsQuery): Promise<DatasetRowPage>;
}

const DEFAULT_LIMIT = 20;
const { max_seq_length, on_overflow, completion_format } = TrainingSettings.properties;
const RowSettings = Type.Object({ max_seq_length, on_overflow, completion_format });
type RowSettings = Static<typeof RowSettings>;
type Page = Required<Pick<DatasetRowsQuery, 'after' | 'limit'>>;

export function createRowViews(options: RowViewsOptions): RowViews {
  const { catalog, preflight, preparations } = options;

  const asUploaded = (dataset: UploadedDataset, page: Page) =>
    withLeases(options, async (leases) => {
      const rowsFile = await leases.rowsFile(dataset);
      return await preflight.viewRows({ dataset, rowsFile, ...page, encoding: null });
    });

  const asTokens = async (dataset: UploadedDataset, page: Page, baseModel: string, settings: RowSettings) => {
    await preparations.checkModel(baseModel);
    return await withRows(options, { dataset, baseModel }, ({ modelsDir, rowsFile }) =>
      preflight.viewRows({ dataset, rowsFile, ...page, encoding: { modelsDir, baseModel, settings } }),
    );
  };

  return {
    async page(id, { limit = DEFAULT_LIMIT, after = 0, base_model: baseModel, ...settings }) {
      const [unused] = baseModel === undefined ? Object.keys(settings) : [];
      if (unused !== undefined) {
        const message = `${unused} needs base_model: without a model, rows have no tokens.`;
        throw new ProductError('invalid_request', message, { param: unused });
      }
      const dataset = await catalog.uploaded(id);
      const rows = { after, limit };
      const viewed =
        baseModel === undefined
          ? await asUploaded(dataset, rows)
          : await asTokens(dataset, rows, baseModel, Value.Default(RowSettings, settings) as RowSettings);
      const next = viewed.has_more ? viewed.data.at(-1)!.line : null;
      return { object: 'dataset_rows', dataset: id, base_model: baseModel ?? null, ...viewed, next };
    },
  };
}
