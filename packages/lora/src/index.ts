export { LoraAdapter, type LoraOptions } from './lora-adapter.js';
export { type MergeOptions, mergeModel } from './merge-model.js';
export { type PeftAdapter, type PeftModule, trueAlpha } from './peft-adapter.js';
export { type AdapterBase, readPeftFolder, writePeftFolder } from './peft-folder.js';
