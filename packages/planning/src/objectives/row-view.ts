import type { DatasetRowView } from '@lorasmith/contracts';

/** A row as tokens. */
export type RowView = Pick<DatasetRowView, 'tokens' | 'rejected_tokens' | 'label'>;
