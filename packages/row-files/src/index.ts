export {
  type ColumnChoice,
  type ColumnMapping,
  MAX_MAPPING_CHARACTERS,
  mapColumns,
  parseColumnMapping,
} from './column-mapping.js';
export { type FileOptions, linesOfFile, textOfFile } from './file-lines.js';
export { mappedJson } from './mapped-json.js';
export { linesOfParquet, type ParquetOptions, parquetLimits } from './parquet-lines.js';
export { linesOfText } from './text-lines.js';
export { gunzip } from './unpack-gzip.js';
export { unzstd } from './unpack-zstd.js';
