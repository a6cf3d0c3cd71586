// What of this package needs no engine: PEFT files as they lie on disk.
export { type CommonForm, commonForm, commonFormBytes, manifestLora } from './common-scale.js';
export { checkFitsBase } from './fits-base.js';
export type { PeftAdapter, PeftModule } from './peft-adapter.js';
export { type AdapterBase, readPeftFolder, writePeftFolder } from './peft-folder.js';
