export type {
  Activation,
  Architecture,
  ClassifierArchitecture,
  DecoderArchitecture,
  RopeSettings,
} from './architecture.js';
export { describeModel, listModelFolders, openBaseModel } from './base-models.js';
export { type ChatTemplate, type ChatTemplateOptions, loadChatTemplate } from './chat-template.js';
export { DTYPE_NAMES, type DtypeName, type ModelFolder, readModelFolder } from './model-folder.js';
export { type ModelWeights, openModelWeights } from './model-weights.js';
export { loadTokenizer, type Tokenizer } from './tokenizer.js';
export { digestWeights } from './weight-digest.js';
export type { LocatedTensor, WeightFile } from './weight-files.js';
