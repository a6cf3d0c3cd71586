export {
  type ColumnChoice,
  type ColumnMapping,
  MAX_MAPPING_CHARACTERS,
  mapColumns,
  mappedJson,
  parseColumnMapping,
} from './column-mapping.js';
export { type FileOptions, gunzip, linesOfFile, textOfFile } from './file-lines.js';
export { linesOfParquet, type ParquetOptions, parquetLimits } from './parquet-lines.js';
export { linesOfText } from './text-lines.js';
export { unzstd } from './unpack-zstd.js';
