// The import of fine-tuning jobs from OpenAI's wire. It uses no Node modules; the api runs it, too.
export {
  endOf,
  type ImportClient,
  OpenaiImport,
  type OpenaiImportOptions,
  type PlannedImport,
} from './import-from-openai.js';
export { addressOf, OpenaiWire, type OpenaiWireOptions } from './openai-wire.js';
export { askedDelayMs } from './retry-delay.js';
export type { OpenaiSource, SourceFile, SourceJob, SourceQuestion } from './source.js';
