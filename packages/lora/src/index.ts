export { type CommonForm, commonForm, cutRank, manifestLora, withScale } from './common-scale.js';
export { LoraAdapter, type LoraOptions, type LoraTarget } from './lora-adapter.js';
export { type MergeOptions, mergeModel } from './merge-model.js';
export type { PeftAdapter, PeftModule } from './peft-adapter.js';
export { type AdapterBase, readPeftFolder, writePeftFolder } from './peft-folder.js';
