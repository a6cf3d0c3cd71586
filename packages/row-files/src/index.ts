export {
  type ColumnChoice,
  type ColumnMapping,
  MAX_MAPPING_CHARACTERS,
  mapColumns,
  parseColumnMapping,
} from './column-mapping.js';
export { type FileOptions, linesOfFile } from './file-lines.js';
export { linesOfParquet, type ParquetOptions, parquetLimits } from './parquet-lines.js';
export { unzstd } from './unpack-zstd.js';
